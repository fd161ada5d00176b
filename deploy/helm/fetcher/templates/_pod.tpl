{{/*
What every OME pod has in common. The charts of services and NATS hold identical copies of this file, so that each can be
installed alone without a dependency to download; tests/contract/charts compares them.
*/}}

{{- define "ome.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ome.labels" -}}
{{ include "ome.selectorLabels" . }}
app.kubernetes.io/part-of: ome
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* A registry that an installation of all charts shares comes before each repository. */}}
{{- define "ome.registry" -}}
{{- with (.Values.global | default dict).imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- end }}

{{/* The image of a service of ours by the value that describes it and the value's name. Nothing is pulled by guessing. */}}
{{- define "ome.imageOf" -}}
{{- $registry := include "ome.registry" .root -}}
{{- if not (or $registry .image.repository) -}}
{{- fail (printf "no images are published, so tell where yours are: set global.imageRegistry, such as registry.example.com/team, or %s.repository; make images builds them (docs/guides/installing.md#images)" .name) -}}
{{- end -}}
{{ printf "%s%s:%s" $registry (.image.repository | default (printf "ome/%s" .service)) (.image.tag | default .root.Chart.AppVersion) | quote }}
{{- end }}

{{- define "ome.image" -}}
{{ include "ome.imageOf" (dict "root" . "image" .Values.image "name" "image" "service" (trimPrefix "ome-" .Chart.Name)) }}
{{- end }}

{{- define "ome.listen" -}}
- name: OME_LISTEN_HOST
{{- if eq .Values.listen "pod" }}
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- else }}
  value: "::"
{{- end }}
{{- end }}

{{- define "ome.env" -}}
{{ include "ome.listen" . }}
- name: OME_HTTP_PORT
  value: "8080"
- name: OME_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
- name: OME_LOG_FORMAT
  value: {{ .Values.logFormat | quote }}
{{- end }}

{{- define "ome.tracesEnv" -}}
- name: OME_TRACES_ENDPOINT
  value: {{ .Values.traces.endpoint | quote }}
- name: OME_TRACES_RATIO
  value: {{ .Values.traces.ratio | quote }}
{{- end }}

{{- define "ome.extraEnv" -}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ome.kubernetesEnv" -}}
- name: OME_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: OME_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: OME_SERVICE_ACCOUNT_DIR
  value: /var/run/secrets/kubernetes.io/serviceaccount
{{- end }}

{{- define "ome.probes" -}}
# A node that starts many Pods at once takes minutes for each. A start that is ended for that is repeated by the next one.
startupProbe:
  httpGet:
    path: /healthz
    port: http
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 300
livenessProbe:
  httpGet:
    path: /healthz
    port: http
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
{{- end }}

{{- define "ome.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "ome.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Over nodes and zones, where they can be. */}}
{{- define "ome.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "ome.selectorLabels" . | nindent 8 }}
    # Counted for each generation of Pods: the old ones, which are about to go, must not push the new ones together.
    matchLabelKeys: [pod-template-hash]
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "ome.selectorLabels" . | nindent 14 }}
          matchLabelKeys: [pod-template-hash]
{{- end }}

{{/*
What a Pod may connect to, as rules of a NetworkPolicy. Without `to` a rule permits every address, as where the API
server and a NATS server of others are is not known here.
*/}}
{{- define "ome.egressToNames" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

{{- define "ome.egressToNats" -}}
{{- $host := (urlParse .Values.nats.url).host -}}
- ports:
    - port: {{ regexFind ":[0-9]+$" $host | trimPrefix ":" | default "4222" }}
      protocol: TCP
  {{- if eq (regexReplaceAll ":[0-9]+$" $host "") "ome-nats" }}
  to:
    - podSelector:
        matchLabels:
          app.kubernetes.io/name: ome-nats
  {{- end }}
{{- end }}

{{- define "ome.egressToKubernetes" -}}
- ports:
    {{- range .Values.networkPolicy.apiServerPorts }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .Values.networkPolicy.apiServerRanges }}
  to:
    {{- range . }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  {{- end }}
{{- end }}
