{{/* A JVM with a bounded heap that ends itself when that is too small. Arguments: heap in MiB, main class. */}}
{{- define "kafka.java" -}}
java -Xmx{{ index . 0 }}m -XX:+ExitOnOutOfMemoryError -Djava.net.preferIPv4Stack=true -cp '/etc/kafka/config:/opt/kafka/jars/*' {{ index . 1 }}
{{- end }}

{{/* The configuration with what the secret adds. */}}
{{- define "kafka.properties" -}}
cat /etc/kafka/config/server.properties {{ if .Values.listener.brokerSecret }}/etc/kafka/broker/broker.properties {{ end }}> /tmp/server.properties
{{- end }}

{{- define "kafka.volumes" -}}
- name: config
  configMap:
    name: {{ .Release.Name }}-config
- name: tmp
  emptyDir: {}
{{- end }}

{{- define "kafka.mounts" -}}
- {name: config, mountPath: /etc/kafka/config, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "kafka.brokerMounts" -}}
{{ include "kafka.mounts" . }}
- {name: data, mountPath: /data}
{{- if .Values.listener.brokerSecret }}
- {name: broker, mountPath: /etc/kafka/broker, readOnly: true}
{{- end }}
{{- end }}
