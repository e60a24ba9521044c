{{- define "postgres.env" -}}
- {name: PGDATA, value: /data/pgdata}
- {name: PGHOST, value: /run/postgresql}
{{- end }}

{{- define "postgres.mounts" -}}
- {name: config, mountPath: /etc/postgresql, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: run, mountPath: /run/postgresql}
- {name: data, mountPath: /data}
{{- end }}
