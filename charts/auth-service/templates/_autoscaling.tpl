{{/* The autoscalers: what they have in common. */}}

{{/* How fast, up and down; of a HorizontalPodAutoscaler, and of the one that KEDA makes. */}}
{{- define "auth-service.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: 4, periodSeconds: 15}
# Never for a dip of less than five minutes. The controller rounds down what stays, so a tenth is one pod of up to ten, two of up to
# twenty: never more than a quarter a minute, of four pods or more. A quarter as such would take three of nine, and two of six.
scaleDown:
  stabilizationWindowSeconds: 300
  selectPolicy: Max
  policies:
    - {type: Percent, value: 10, periodSeconds: 60}
{{- end -}}

{{/* A number as the API server writes it, so that what is compared with the cluster is the same: 4000 is 4k there. */}}
{{- define "auth-service.quantity" -}}
{{- $number := int64 . -}}
{{- if eq (mod $number 1000000) 0 }}{{ div $number 1000000 }}M{{ else if eq (mod $number 1000) 0 }}{{ div $number 1000 }}k{{ else }}{{ $number }}{{ end -}}
{{- end -}}

{{/* A HorizontalPodAutoscaler: root, component, and its group `autoscaling` of the values. */}}
{{- define "auth-service.autoscaler" -}}
{{- $name := printf "%s-%s" (include "auth-service.fullname" .root) .component -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "auth-service.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ .autoscaling.minReplicas }}
  maxReplicas: {{ .autoscaling.maxReplicas }}
  metrics:
    {{- with .autoscaling.requestsPerSecond }}
    - type: Pods
      pods:
        metric: {name: auth_service_requests_per_second}
        target: {type: AverageValue, averageValue: {{ include "auth-service.quantity" . | quote }}}
    {{- end }}
    {{- with .autoscaling.inFlight }}
    - type: Pods
      pods:
        metric: {name: auth_service_requests_in_flight}
        target: {type: AverageValue, averageValue: {{ include "auth-service.quantity" . | quote }}}
    {{- end }}
    # Of this container alone, whatever a mesh puts beside it. Every Kubernetes that the chart is for has it: on by default since 1.27.
    - type: ContainerResource
      containerResource:
        name: cpu
        container: {{ .component }}
        target: {type: Utilization, averageUtilization: {{ .autoscaling.targetCpuUtilization }}}
  behavior: {{- include "auth-service.scalingBehavior" . | nindent 4 }}
{{- end -}}
