{{- define "slm.name" -}}
{{- printf "%s-%s" .Release.Name "slm" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "slm.labels" -}}
{{ include "slm.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "slm.selector" -}}
app.kubernetes.io/name: slm-server
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "slm.image" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}

{{- define "slm.claim" -}}
{{ .Values.data.existingClaim | default (printf "%s-data" (include "slm.name" .)) }}
{{- end -}}

{{- /* Longer than the drain and the lease, so that running generations end or are handed over. */ -}}
{{- define "slm.grace" -}}
{{ add .Values.drain.workerSeconds .Values.drain.leaseSeconds .Values.drain.endpointSeconds 15 }}
{{- end -}}

{{- define "slm.models" -}}
{{- range $index, $model := .Values.models }}{{ if $index }}; {{ end }}{{ $model.name }}={{ $model.source }}{{ end -}}
{{- end -}}

{{- define "slm.environment" -}}
- {name: SLM_REDIS_URL, valueFrom: {secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: {{ .Values.redis.key }}}}}
- {name: SLM_DATA_DIR, value: /data}
- {name: SLM_HOST, value: 0.0.0.0}
- {name: SLM_PORT, value: "5000"}
- {name: SLM_MODELS, value: {{ include "slm.models" . | quote }}}
- {name: SLM_DRAIN_S, value: {{ .Values.drain.workerSeconds | quote }}}
- {name: SLM_LEASE_S, value: {{ .Values.drain.leaseSeconds | quote }}}
- {name: HOME, value: /tmp} # the root file system is read-only
- {name: HF_HOME, value: /data/.cache/huggingface} # a model of the hub is downloaded once, for all pods
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end -}}

{{- define "slm.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false # its variables begin with the Service's name, and unknown SLM_ variables are refused
shareProcessNamespace: true # the pause container collects the processes that have ended
terminationGracePeriodSeconds: {{ include "slm.grace" . }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.images.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: data
    persistentVolumeClaim: {claimName: {{ include "slm.claim" . }}}
  - name: tmp
    emptyDir: {}
{{- end -}}

{{- define "slm.container" -}}
imagePullPolicy: {{ .Values.images.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- with .Values.settingsSecrets }}
envFrom:
{{- range . }}
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}
volumeMounts:
  - {name: data, mountPath: /data}
  - {name: tmp, mountPath: /tmp}
{{- end -}}

{{- /* dict: gpus, resources */ -}}
{{- define "slm.resources" -}}
{{- $limits := .resources.limits | default dict -}}
{{- if .gpus }}{{ $limits = merge (dict "nvidia.com/gpu" (.gpus | toString)) $limits }}{{ end -}}
requests: {{- toYaml (.resources.requests | default dict) | nindent 2 }}
limits: {{- toYaml $limits | nindent 2 }}
{{- end -}}
