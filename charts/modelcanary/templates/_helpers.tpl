{{/* The reference of a part's image: its own, else by registry, name and tag. */}}
{{- define "modelcanary.image" -}}
{{- $own := (index .root.Values .part).image -}}
{{- $general := .root.Values.image -}}
{{- $own | default (printf "%s/modelcanary-%s:%s" $general.registry .part ($general.tag | default .root.Chart.AppVersion)) -}}
{{- end }}

{{- define "modelcanary.selector" -}}
app.kubernetes.io/name: modelcanary
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "modelcanary.labels" -}}
{{ include "modelcanary.selector" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* For objects outside of the namespace: two releases do not share them. */}}
{{- define "modelcanary.clusterName" -}}
modelcanary:{{ .root.Release.Namespace }}:{{ .part }}
{{- end }}

{{/* What Pod Security calls restricted, and more: see also the containers'. */}}
{{- define "modelcanary.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "modelcanary.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{/* Where the pod may run, as the values of its part say. */}}
{{- define "modelcanary.placement" -}}
{{- $part := index .root.Values .part -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with $part.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* The endpoints from which labels are read, as YAML; empty where there are none. */}}
{{- define "modelcanary.followed" -}}
{{- $found := dict -}}
{{- range $name, $entry := .Values.endpoints -}}
{{- if has $entry.type (list "kafka" "files") -}}{{- $_ := set $found $name $entry -}}{{- end -}}
{{- end -}}
{{- with $found -}}{{- toYaml . -}}{{- end -}}
{{- end }}

{{- define "modelcanary.ledgerUrl" -}}
{{ ternary "https" "http" .Values.tls.enabled }}://modelcanary-ledger.{{ .Release.Namespace }}.svc:8071
{{- end }}

{{- define "modelcanary.tlsSecret" -}}
{{ .Values.tls.existingSecret | default "modelcanary-ledger-tls" }}
{{- end }}

{{/*
What the operator may do in a namespace that it works in. Each verb is one that it uses: operator/modelcanary_operator/
apply.py writes, find.py reads, events.py watches.
*/}}
{{- define "modelcanary.operatorRules" -}}
- apiGroups: [modelcanary.io]
  resources: [modelcanaries]
  verbs: [get, list, watch, patch]
- apiGroups: [modelcanary.io]
  resources: [modelcanaries/status]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [list, create, update, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods, persistentvolumeclaims]
  verbs: [list]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch, create, update, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch, create, update, delete]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [list, create, update, patch, delete]
# Decision reports; their names are not known beforehand. Of others', it reads and changes the authorities' alone.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [list, create, delete]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [modelcanary-ca]
  verbs: [get, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
