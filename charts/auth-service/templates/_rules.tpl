{{/* The rules of monitoring/, which name everything auth-service, for this release. */}}

{{/* Text with the release's names in it; the operator calls the job of a PodMonitor NAMESPACE/NAME. */}}
{{- define "auth-service.named" -}}
{{- $full := include "auth-service.fullname" .root -}}
{{- .text
  | replace "job=\"auth-service\"" (printf "job=\"%s/%s\"" .root.Release.Namespace $full)
  | replace "namespace=\"auth-service\"" (printf "namespace=\"%s\"" .root.Release.Namespace)
  | replace "?auth-service-(" (printf "?%s-(" $full)
  | replace "job: auth-service}" (printf "job: %s/%s}" .root.Release.Namespace $full)
  | replace "\"auth-service-nginx\"" (printf "\"%s-nginx\"" $full)
  | replace "\"data-auth-service-redis-0\"" (printf "\"data-%s-redis-0\"" $full) -}}
{{- end -}}

{{- define "auth-service.rules" -}}
{{- $named := include "auth-service.named" (dict "root" . "text" (.Files.Get "monitoring/rules.yaml")) -}}
{{- $named | replace "runbook_url: docs/runbooks/" (printf "runbook_url: %s/" (.Values.monitoring.runbooksUrl | trimSuffix "/")) -}}
{{- end -}}

{{/* The groups of monitoring/objectives.yaml with the values' numbers, and those of the file where the values say none. */}}
{{- define "auth-service.objectives" -}}
{{- $monitoring := .Values.monitoring -}}
{{- $costs := $monitoring.baselineCpuMicroseconds | default dict -}}
{{- $groups := (.Files.Get "monitoring/objectives.yaml" | fromYaml).groups -}}
{{- range $rule := (index $groups 0).rules -}}
  {{- $_ := set $rule.labels "job" (printf "%s/%s" $.Release.Namespace (include "auth-service.fullname" $)) -}}
  {{- $microseconds := index $costs (default "idle" $rule.labels.endpoint) -}}
  {{- if eq $rule.record "auth_service:error_budget:ratio" -}}
    {{- $_ := set $rule "expr" (printf "vector(%v)" $monitoring.objectives.errorBudget) -}}
  {{- else if eq $rule.record "auth_service:objective_latency_seconds:p99" -}}
    {{- $_ := set $rule "expr" (printf "vector(%v)" $monitoring.objectives.p99Seconds) -}}
  {{- else if $microseconds -}}
    {{- $_ := set $rule "expr" (printf "vector(%v / 1000000)" $microseconds) -}}
  {{- end -}}
{{- end -}}
{{ $groups | toYaml }}
{{- end -}}
