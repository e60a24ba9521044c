{{- define "streaming.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: data, mountPath: /data}
{{- end }}

{{- define "streaming.envFrom" -}}
- configMapRef:
    name: {{ .Release.Name }}-config
{{- range .Values.envSecrets }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- end }}
