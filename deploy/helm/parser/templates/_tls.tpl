{{/*
Who makes the certificates of a service, and what is in them. The charts of parser, status and NATS hold identical copies
of this file, as they do of _pod.tpl.
*/}}

{{- define "ome.tlsSecret" -}}
{{ .Values.tls.existingSecret | default (printf "%s-tls" .Chart.Name) }}
{{- end }}

{{/* "helm", "cert-manager", or nothing when the Secret is the user's or there is no TLS. */}}
{{- define "ome.tlsMaker" -}}
{{- if and .Values.tls.enabled (not .Values.tls.existingSecret) -}}
{{- if .Values.tls.certManager.issuerRef.name }}cert-manager{{ else }}helm{{ end -}}
{{- end -}}
{{- end }}

{{- define "ome.tlsNames" -}}
{{- $service := printf "%s.%s.svc" .Chart.Name .Release.Namespace }}
{{- concat (list $service (printf "%s.cluster.local" $service) (printf "%s.%s" .Chart.Name .Release.Namespace) .Chart.Name "localhost") .Values.tls.extraNames | uniq | toJson }}
{{- end }}

{{- define "ome.tlsAddresses" -}}
{{- concat (list "127.0.0.1") .Values.tls.extraAddresses | uniq | toJson }}
{{- end }}

{{/*
Whatever a certificate names: Helm makes it anew when this changes. The authority has another name than the service:
OpenSSL takes a certificate that names its own subject as the issuer for self-signed, and refuses it.
*/}}
{{- define "ome.tlsSubject" -}}
{{- printf "%s authority %s %s" .Chart.Name (include "ome.tlsNames" .) (include "ome.tlsAddresses" .) | sha256sum }}
{{- end }}

{{- define "ome.tlsEnv" -}}
- name: OME_GRPC_PLAINTEXT
  value: {{ not .Values.tls.enabled | quote }}
{{- if .Values.tls.enabled }}
- name: OME_GRPC_TLS_DIR
  value: /var/run/secrets/tls
{{- end }}
{{- end }}

{{- define "ome.tlsMount" -}}
{{- if .Values.tls.enabled }}
- name: tls
  mountPath: /var/run/secrets/tls
  readOnly: true
{{- end }}
{{- end }}

{{- define "ome.tlsVolume" -}}
{{- if .Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "ome.tlsSecret" . }}
{{- end }}
{{- end }}

{{/* appProtocol of the Service: what a mesh or a gateway in between is to expect. */}}
{{- define "ome.tlsProtocol" -}}
{{- if .Values.tls.enabled }}https{{ else }}kubernetes.io/h2c{{ end -}}
{{- end }}

{{/* The Secret of a service with the certificate that Helm has made: root, and data. */}}
{{- define "ome.tlsMadeSecret" -}}
apiVersion: v1
kind: Secret
metadata:
  name: {{ .root.Chart.Name }}-tls
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "ome.labels" .root | nindent 4 }}
  annotations:
    models.ome.io/certificate-of: {{ include "ome.tlsSubject" .root }}
type: kubernetes.io/tls
data:
  {{- toYaml .data | nindent 2 }}
{{- end }}

{{/* What cert-manager is to make: root, the name of its Secret, whose it is (of), usages, and names and addresses if any. */}}
{{- define "ome.tlsCertificate" -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ .secret }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "ome.labels" .root | nindent 4 }}
spec:
  secretName: {{ .secret }}
  commonName: {{ .of }}
  {{- with .names }}
  dnsNames: {{ . }}
  {{- end }}
  {{- with .addresses }}
  ipAddresses: {{ . }}
  {{- end }}
  usages: [{{ join ", " .usages }}]
  privateKey:
    algorithm: ECDSA
    rotationPolicy: Always
  issuerRef:
    {{- toYaml .root.Values.tls.certManager.issuerRef | nindent 4 }}
{{- end }}
