{{/* The name of the gateway's resources: with -valkey and the hash of a revision behind it, it still fits into a label. */}}
{{- define "redlockd.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "redlockd.valkey.fullname" -}}
{{- printf "%s-valkey" (include "redlockd.fullname" .) -}}
{{- end -}}

{{- define "redlockd.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "redlockd.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What a gateway and a Valkey server are selected by, which never changes. Takes a list of the context and the component. */}}
{{- define "redlockd.selectorLabels" -}}
{{- $context := index . 0 -}}
app.kubernetes.io/name: {{ default $context.Chart.Name $context.Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ $context.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "redlockd.labels" -}}
{{- $context := index . 0 -}}
{{ include "redlockd.selectorLabels" . }}
app.kubernetes.io/version: {{ $context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $context.Chart.Name $context.Chart.Version }}
{{- with $context.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "redlockd.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{/* What the chart can't run with, said before anything is installed. */}}
{{- define "redlockd.check" -}}
{{- $own := ternary 1 0 .Values.valkey.enabled -}}
{{- $secret := ternary 1 0 (ne .Values.nodes.existingSecret "") -}}
{{- $listed := ternary 1 0 (gt (len .Values.nodes.addresses) 0) -}}
{{- if ne (add $own $secret $listed) 1 -}}
{{- fail "nodes: set exactly one of nodes.addresses, nodes.existingSecret and valkey.enabled" -}}
{{- end -}}
{{- if and (not .Values.auth.existingSecret) (not .Values.tls.clientCaSecret) (not .Values.settings.jwks) (not .Values.auth.insecureNoAuth) -}}
{{- fail "auth: set auth.existingSecret (redlockd token new --file tokens.toml makes its content), tls.clientCaSecret or settings.jwks, or auth.insecureNoAuth if whoever reaches the service may do everything" -}}
{{- end -}}
{{- if and .Values.tls.clientCaSecret (not .Values.tls.existingSecret) -}}
{{- fail "tls: clients show certificates over TLS only; set tls.existingSecret beside tls.clientCaSecret" -}}
{{- end -}}
{{- if and .Values.settings.jwks (not (and .Values.settings.jwt_issuer .Values.settings.jwt_audience)) -}}
{{- fail "settings: jwks counts with jwt_issuer and jwt_audience only" -}}
{{- end -}}
{{- if and (hasPrefix "http" (lower (default "" .Values.settings.jwks))) .Values.networkPolicy.enabled (not .Values.networkPolicy.extraEgress) -}}
{{- fail "networkPolicy: no rule lets the gateways reach the issuer behind settings.jwks; add one to networkPolicy.extraEgress" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled .Values.tls.existingSecret -}}
{{- fail "httpRoute: it speaks http to the gateways, and they speak https; end TLS at the one or at the other" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling: minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- $names := list -}}
{{- range .Values.nodes.addresses }}{{ $names = append $names (first (splitList "=" .)) }}{{ end -}}
{{- if ne (len $names) (len (uniq $names)) -}}
{{- fail "nodes: two of nodes.addresses have one name" -}}
{{- end -}}
{{- if .Values.networkPolicy.enabled -}}
{{- range .Values.nodes.addresses -}}
{{- $port := int (default "6379" (regexFind "[0-9]+$" (regexFind ":[0-9]+$" (regexReplaceAll "/[0-9]*$" (regexReplaceAll "^.*://" . "") "")))) -}}
{{- $allowed := list -}}
{{- range $.Values.networkPolicy.nodePorts }}{{ $allowed = append $allowed (int .) }}{{ end -}}
{{- if not (has $port $allowed) -}}
{{- fail (printf "networkPolicy: nodePorts does not let the gateways reach port %d, at which a node of nodes.addresses is" $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Every pod of the StatefulSet by its own DNS name: behind one name they would not be independent nodes. */}}
{{- define "redlockd.nodes" -}}
{{- if .Values.valkey.enabled -}}
{{- $name := include "redlockd.valkey.fullname" . -}}
{{- $nodes := list -}}
{{- range $index := until (int .Values.valkey.count) -}}
{{- $nodes = append $nodes (printf "n%d=redis://%s-%d.%s.%s.svc:6379" (add $index 1) $name $index $name $.Release.Namespace) -}}
{{- end -}}
{{- join "," $nodes -}}
{{- else -}}
{{- join "," .Values.nodes.addresses -}}
{{- end -}}
{{- end -}}

{{/* The secrets whose files the gateways read: what is mounted, and where. */}}
{{- define "redlockd.files" -}}
{{- with .Values.auth.existingSecret }}
tokens: {secret: {{ . }}, path: /etc/redlockd}
{{- end }}
{{- with .Values.tls.existingSecret }}
tls: {secret: {{ . }}, path: /etc/redlockd-tls}
{{- end }}
{{- with .Values.tls.clientCaSecret }}
tls-clients: {secret: {{ . }}, path: /etc/redlockd-tls-clients}
{{- end }}
{{- with .Values.nodes.tls.caSecret }}
nodes-ca: {secret: {{ . }}, path: /etc/redlockd-nodes-ca}
{{- end }}
{{- with .Values.nodes.tls.clientSecret }}
nodes-tls: {secret: {{ . }}, path: /etc/redlockd-nodes-tls}
{{- end }}
{{- end -}}

{{/* Nothing in the containers needs any right. */}}
{{- define "redlockd.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
