{{/* A JVM with a bounded heap that ends itself when that is too small. Arguments: heap in MiB, main class. */}}
{{- define "hdfs.java" -}}
java -Xmx{{ index . 0 }}m -XX:+ExitOnOutOfMemoryError -Djava.net.preferIPv4Stack=true -cp '/etc/hadoop:/tmp/web:/opt/hdfs/jars/*' {{ index . 1 }}
{{- end }}

{{/* The jars carry no web pages; the servers want the folders nevertheless. */}}
{{- define "hdfs.webFolders" -}}
mkdir -p /tmp/web/webapps/hdfs /tmp/web/webapps/datanode /tmp/web/webapps/static /tmp/web/webapps/logs
{{- end }}

{{- define "hdfs.env" -}}
- name: HADOOP_USER_NAME
  value: {{ .Values.user | quote }}
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
{{- end }}

{{- define "hdfs.volumes" -}}
- name: config
  configMap:
    name: {{ .Release.Name }}-config
- name: tmp
  emptyDir: {}
{{- end }}

{{- define "hdfs.mounts" -}}
- {name: config, mountPath: /etc/hadoop, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end }}
