{{/* Sums that must hold. A value that breaks one is refused with the sum and the way out. */}}

{{/* Bytes of a quantity. */}}
{{- define "auth-service.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9.]+" $text -}}
{{- mulf (float64 $number) (get $units (trimPrefix $number $text)) | floor | int64 -}}
{{- end -}}

{{/* Whole cores of a CPU limit, one at least. */}}
{{- define "auth-service.cores" -}}
{{- $text := toString (. | default 1) -}}
{{- if hasSuffix "m" $text -}}
{{- max 1 (ceil (divf (float64 (trimSuffix "m" $text)) 1000.0)) | int -}}
{{- else -}}
{{- max 1 (ceil (float64 $text)) | int -}}
{{- end -}}
{{- end -}}

{{/* Worker processes of an auth pod: as AUTH_WORKERS=auto counts, no fraction of a CPU. */}}
{{- define "auth-service.workers" -}}
{{- $text := toString (.Values.auth.resources.limits.cpu | default 1) -}}
{{- $cores := ternary (divf (float64 (trimSuffix "m" $text)) 1000.0) (float64 (trimSuffix "m" $text)) (hasSuffix "m" $text) -}}
{{- .Values.auth.workers | default (max 1 (floor $cores)) | int -}}
{{- end -}}

{{/* maxmemory of Redis in bytes: half of the limit of the chart's own. */}}
{{- define "auth-service.maxmemory" -}}
{{- $redis := .Values.redis -}}
{{- if $redis.external.url -}}
{{- include "auth-service.bytes" $redis.external.memory -}}
{{- else -}}
{{- div (include "auth-service.bytes" (required "redis.resources.limits.memory is needed: maxmemory is half of it." $redis.resources.limits.memory) | int64) 2 -}}
{{- end -}}
{{- end -}}

{{/* Most auth pods there can be. */}}
{{- define "auth-service.mostPods" -}}
{{- $auth := .Values.auth -}}
{{- ternary $auth.autoscaling.maxReplicas $auth.replicas (or $auth.autoscaling.enabled $auth.keda.enabled) -}}
{{- end -}}

{{- define "auth-service.leastPods" -}}
{{- $auth := .Values.auth -}}
{{- ternary $auth.autoscaling.minReplicas $auth.replicas (or $auth.autoscaling.enabled $auth.keda.enabled) -}}
{{- end -}}

{{/* Most nginx pods there can be. */}}
{{- define "auth-service.mostBalancers" -}}
{{- with .Values.nginx }}{{ ternary .autoscaling.maxReplicas .replicas .autoscaling.enabled }}{{ end -}}
{{- end -}}

{{- define "auth-service.leastBalancers" -}}
{{- with .Values.nginx }}{{ ternary .autoscaling.minReplicas .replicas .autoscaling.enabled }}{{ end -}}
{{- end -}}

{{/* Seconds for which nginx may go on sending to a pod that began to leave, or not know a new one: what DNS keeps, and twice what nginx keeps. */}}
{{- define "auth-service.nginxLearns" -}}
{{- add .Values.nginx.dnsTtlSeconds (mul 2 .Values.nginx.resolverSeconds) 2 -}}
{{- end -}}

{{/* Seconds that a pod waits before it drains. */}}
{{- define "auth-service.preStopSeconds" -}}
{{- if kindIs "invalid" .Values.auth.preStopSeconds -}}
{{- max 0 (sub (include "auth-service.nginxLearns" . | int) (int .Values.auth.drainSeconds)) -}}
{{- else -}}
{{- int .Values.auth.preStopSeconds -}}
{{- end -}}
{{- end -}}

{{/* Seconds after which an auth pod is killed: the wait, the drain, the longest request, and a second to leave. */}}
{{- define "auth-service.graceNeeded" -}}
{{- add (include "auth-service.preStopSeconds" . | int) .Values.auth.drainSeconds 6 -}}
{{- end -}}

{{/* Bytes of Redis memory that the capacity takes: live tokens, and events that wait for the record store. */}}
{{- define "auth-service.memoryNeeded" -}}
{{- $capacity := .Values.capacity -}}
{{- add (mul $capacity.tokensPerSecond $capacity.accessTtlSeconds 200) (mul $capacity.tokensPerSecond $capacity.outageMinutes 60 256) -}}
{{- end -}}

{{/* Events that may wait for the record store: those of the outage to be outlived, or a quarter of the memory if that is more. */}}
{{- define "auth-service.backlogLimit" -}}
{{- $capacity := .Values.capacity -}}
{{- max (mul $capacity.tokensPerSecond $capacity.outageMinutes 60) (div (include "auth-service.maxmemory" . | int64) 1024) 1 -}}
{{- end -}}

{{- define "auth-service.writers" -}}
{{- ternary .Values.writer.replicas 1 (ne .Values.oracle.url "") -}}
{{- end -}}

{{- define "auth-service.check" -}}
{{- $auth := .Values.auth -}}
{{- $nginx := .Values.nginx -}}
{{- $redis := .Values.redis -}}
{{- $oracle := .Values.oracle -}}
{{- $capacity := .Values.capacity -}}
{{- $writers := include "auth-service.writers" . | int -}}
{{- $workers := include "auth-service.workers" . | int -}}
{{- $mostPods := include "auth-service.mostPods" . | int -}}

{{- if and $auth.autoscaling.enabled $auth.keda.enabled -}}
{{- fail "auth.autoscaling and auth.keda are both enabled, and would scale against each other: enable one." -}}
{{- end -}}
{{- if and $auth.keda.enabled (not $auth.keda.triggers) -}}
{{- fail "auth.keda is enabled without auth.keda.triggers: name what it is to look at." -}}
{{- end -}}
{{- range $component, $bounds := dict "auth" $auth.autoscaling "nginx" $nginx.autoscaling -}}
{{- if gt (int $bounds.minReplicas) (int $bounds.maxReplicas) -}}
{{- fail (printf "%s.autoscaling.minReplicas %v is above maxReplicas %v." $component $bounds.minReplicas $bounds.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- $least := include "auth-service.leastPods" . | int -}}
{{- if and (gt $least 1) (ge (int $auth.pdbMaxUnavailable) $least) -}}
{{- fail (printf "auth.pdbMaxUnavailable %v would let a drain take all %d pods at once: keep it below the number of pods." $auth.pdbMaxUnavailable $least) -}}
{{- end -}}
{{- $balancers := include "auth-service.leastBalancers" . | int -}}
{{- $balancersValue := ternary "nginx.autoscaling.minReplicas" "nginx.replicas" $nginx.autoscaling.enabled -}}
{{- if and (gt $balancers 1) (ge (int $nginx.pdbMaxUnavailable) $balancers) -}}
{{- fail (printf "nginx.pdbMaxUnavailable %v would let a drain take all %d pods at once: keep it below %s." $nginx.pdbMaxUnavailable $balancers $balancersValue) -}}
{{- end -}}

{{- if eq $nginx.mode "stream" -}}
{{- $ofRequests := dict "nginx.rateLimit" (gt (int $nginx.rateLimit.requestsPerSecond) 0) "nginx.trustedProxies" $nginx.trustedProxies "basePath" .Values.basePath -}}
{{- range $name, $isSet := $ofRequests -}}
{{- if $isSet -}}
{{- fail (printf "%s needs nginx.mode: http; as stream nginx passes on connections and reads no request." $name) -}}
{{- end -}}
{{- end -}}
{{- else if $nginx.proxyProtocol -}}
{{- fail "nginx.proxyProtocol needs nginx.mode: stream; as http nginx names the caller in X-Forwarded-For." -}}
{{- end -}}

{{/* nginx keeps idle connections to a pod for 4 s (nginx/auth.conf). */}}
{{- if le (int $auth.drainSeconds) 4 -}}
{{- fail (printf "auth.drainSeconds %v is not above the 4 s that nginx keeps idle connections: a request on one could meet a closed door. Use 5 or more." $auth.drainSeconds) -}}
{{- end -}}
{{- if le (int $auth.keepAliveSeconds) 4 -}}
{{- fail (printf "auth.keepAliveSeconds %v is not above the 4 s that nginx keeps idle connections: the pod would close one that nginx is about to use." $auth.keepAliveSeconds) -}}
{{- end -}}
{{- $preStop := include "auth-service.preStopSeconds" . | int -}}
{{- $leaving := add $preStop $auth.drainSeconds -}}
{{- if lt (int $leaving) (include "auth-service.nginxLearns" . | int) -}}
{{- fail (printf "auth.preStopSeconds + auth.drainSeconds = %d s, but nginx may go on sending to a pod for %v + 2 x %v + 2 s after it began to leave (nginx.dnsTtlSeconds, nginx.resolverSeconds): raise one of the first two (preStopSeconds: null is long enough) or lower one of the others." $leaving $nginx.dnsTtlSeconds $nginx.resolverSeconds) -}}
{{- end -}}
{{- $needed := include "auth-service.graceNeeded" . | int -}}
{{- if and $auth.terminationGracePeriodSeconds (lt (int $auth.terminationGracePeriodSeconds) $needed) -}}
{{- fail (printf "auth.terminationGracePeriodSeconds %v is too short: preStopSeconds %d + drainSeconds %v + 6 for the last request = %d." $auth.terminationGracePeriodSeconds $preStop $auth.drainSeconds $needed) -}}
{{- end -}}

{{- if $auth.resources.limits.memory -}}
{{- $memory := include "auth-service.bytes" $auth.resources.limits.memory | int64 -}}
{{- $taken := add 67108864 (mul $workers 115343360) -}}
{{- if lt $memory $taken -}}
{{- fail (printf "auth.resources.limits.memory %s is too small: 64Mi + %d workers x 110Mi = %dMi." $auth.resources.limits.memory $workers (div $taken 1048576)) -}}
{{- end -}}
{{- end -}}

{{- if $oracle.url -}}
{{- $sessions := add (mul (add $writers 1) $oracle.poolMax) $oracle.sessionReserve -}}
{{- if gt (int $sessions) (int $oracle.sessionLimit) -}}
{{- fail (printf "(%d writers + 1 that is ending) x oracle.poolMax %v + oracle.sessionReserve %v = %d sessions, but oracle.sessionLimit is %v: lower one of the three or raise the limit." $writers $oracle.poolMax $oracle.sessionReserve $sessions $oracle.sessionLimit) -}}
{{- end -}}
{{- if not $oracle.existingSecret -}}
{{- fail "oracle.url needs oracle.existingSecret: the name of the Secret with the user's password." -}}
{{- end -}}
{{- else if $oracle.existingSecret -}}
{{- fail "oracle.existingSecret needs oracle.url: the database. Without both, the record store is the embedded one, with one writer." -}}
{{- end -}}

{{/* A worker has one connection for requests and up to three for the directory; a writer 20; commands and people 32. */}}
{{- $maxClients := ternary $redis.external.maxClients $redis.maxClients (ne $redis.external.url "") -}}
{{- $connections := add (mul (add $mostPods 3) $workers 4) (mul $writers 20) 32 -}}
{{- if gt (int $connections) (int $maxClients) -}}
{{- fail (printf "(%d auth pods + 3 while they roll) x %d workers x 4 + %d writers x 20 + 32 = %d connections to Redis, but it takes %v: raise redis.maxClients or lower the pods." $mostPods $workers $writers $connections $maxClients) -}}
{{- end -}}
{{- $maxmemory := include "auth-service.maxmemory" . | int64 -}}
{{- $filled := include "auth-service.memoryNeeded" . | int64 -}}
{{- if gt $filled $maxmemory -}}
{{- fail (printf "Redis must hold %d tokens/s x %d s x 200 bytes + %d tokens/s x %d min x 60 x 256 bytes = %dMi (capacity), but its maxmemory is %dMi: raise %s." (int64 $capacity.tokensPerSecond) (int64 $capacity.accessTtlSeconds) (int64 $capacity.tokensPerSecond) (int64 $capacity.outageMinutes) (div $filled 1048576) (div $maxmemory 1048576) (ternary "redis.external.memory" "redis.resources.limits.memory, of which it is half" (ne $redis.external.url ""))) -}}
{{- end -}}
{{- if and $redis.external.url $redis.exporter.enabled -}}
{{- fail "redis.exporter is a container beside the chart's own Redis, and redis.external.url names another: let whoever runs that one export its metrics." -}}
{{- end -}}
{{- if not $redis.external.url -}}
{{- $volume := include "auth-service.bytes" $redis.persistence.size | int64 -}}
{{- if lt $volume (mul 3 $maxmemory) -}}
{{- fail (printf "redis.persistence.size %s is less than 3 x maxmemory %dMi: its file, the rewrite of it and room. With too little Redis stops." $redis.persistence.size (div $maxmemory 1048576)) -}}
{{- end -}}
{{- end -}}

{{- $nginxWorkers := include "auth-service.cores" $nginx.resources.limits.cpu | int -}}
{{/* worker_connections of nginx/process.conf; a request, and a connection that is passed on, takes two, the client's and the pod's. */}}
{{- $slots := div (mul $balancers $nginxWorkers 8192) 2 -}}
{{- if gt (int $capacity.clientConnections) (int $slots) -}}
{{- fail (printf "capacity.clientConnections %d do not fit: %d nginx pods x %d workers x 8192 / 2 = %d: raise %s or the CPU limit of nginx." (int64 $capacity.clientConnections) $balancers $nginxWorkers $slots $balancersValue) -}}
{{- end -}}

{{- $keys := .Values.secrets.tokenKeys -}}
{{- if eq $keys.issuingEntry $keys.acceptedEntry -}}
{{- fail (printf "secrets.tokenKeys names entry %q twice: the accepted key must be another one." $keys.issuingEntry) -}}
{{- end -}}
{{- if and .Values.clients.seed .Values.clients.existingConfigMap -}}
{{- fail "clients.seed and clients.existingConfigMap are both given: use one." -}}
{{- end -}}
{{- if and $nginx.httpRoute.enabled (not $nginx.httpRoute.parentRefs) -}}
{{- fail "nginx.httpRoute is enabled without nginx.httpRoute.parentRefs: name the gateway." -}}
{{- end -}}
{{- if and $nginx.service.externalTrafficPolicy (eq $nginx.service.type "ClusterIP") -}}
{{- fail "nginx.service.externalTrafficPolicy is for callers from outside the cluster: set nginx.service.type to LoadBalancer or NodePort." -}}
{{- end -}}
{{- range $name, $_ := .Values.settings -}}
{{- if not (regexMatch "^AUTH_[A-Z0-9_]+$" $name) -}}
{{- fail (printf "settings.%s is no setting: they are AUTH_* (docs/settings.md). Other variables belong into extraEnv." $name) -}}
{{- end -}}
{{- if has $name (list "AUTH_HOST" "AUTH_PORT" "AUTH_MANAGEMENT_HOST" "AUTH_MANAGEMENT_PORT" "AUTH_WORKERS" "AUTH_ISSUER" "AUTH_DRAIN_SECONDS" "AUTH_KEEP_ALIVE_SECONDS" "AUTH_PROXY_PROTOCOL" "AUTH_REDIS_URL" "AUTH_REDIS_CA_FILE" "AUTH_RECORDS_URL" "AUTH_ORACLE_POOL_MAX" "AUTH_ORACLE_SESSION_LIMIT" "AUTH_ORACLE_SESSION_RESERVE" "AUTH_ORACLE_WRITERS" "AUTH_ORACLE_CONFIG_DIR" "AUTH_WRITER_PROFILE" "AUTH_CLIENTS_FILE") -}}
{{- fail (printf "settings.%s has a value of its own in this chart: set that." $name) -}}
{{- end -}}
{{- if regexMatch "(KEY|PASSWORD)(_|$)" $name -}}
{{- fail (printf "settings.%s would stand in the open: secrets come from Secrets (secrets, redis.external, oracle)." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
