{{- define "nats.configuration" -}}
server_name: $POD_NAME
listen: "0.0.0.0:4222"
# Probes only: the NetworkPolicy lets nobody else in.
http: "0.0.0.0:8222"
pid_file: /var/run/nats/nats.pid
lame_duck_grace_period: 10s
lame_duck_duration: 30s
# A client whose machine has died goes on getting its share of what replicas answer until the server notices.
ping_interval: 15s
ping_max: 2
jetstream {
  store_dir: /data/jetstream
  max_file_store: {{ .Values.jetstream.size }}
  max_memory_store: 64Mi
}
{{- if .Values.tls.enabled }}
tls {
  {{- include "nats.certificate" . | nindent 2 }}
  # A client shows its password only after the handshake.
  handshake_first: true
}
{{- end }}
{{- if gt (int .Values.replicas) 1 }}
cluster {
  name: ome
  listen: "0.0.0.0:6222"
  # Clients know the Service; addresses of Pods are of no use to them.
  no_advertise: true
  routes: [
    {{- range $number := until (int .Values.replicas) }}
    "nats://ome-nats-{{ $number }}.ome-nats-servers.{{ $.Release.Namespace }}.svc:6222"
    {{- end }}
  ]
  {{- if .Values.tls.enabled }}
  tls {
    {{- include "nats.certificate" . | nindent 4 }}
    verify: true
  }
  {{- end }}
}
{{- end }}
include accounts.conf
{{- end }}

{{- define "nats.certificate" -}}
cert_file: /var/run/secrets/tls/tls.crt
key_file: /var/run/secrets/tls/tls.key
ca_file: /var/run/secrets/tls/ca.crt
{{- end }}

{{- define "nats.secretsImage" -}}
{{ include "ome.imageOf" (dict "root" . "image" .Values.secrets.image "name" "secrets.image" "service" "controller") }}
{{- end }}
