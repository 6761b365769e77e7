-- Prometheus text format.
local metrics = ngx.shared.metrics
ngx.header["Content-Type"] = "text/plain; version=0.0.4"
ngx.say("# TYPE gateway_requests_total counter")
ngx.say("gateway_requests_total ", metrics:get("requests") or 0)
ngx.say("# TYPE gateway_responses_total counter")
local names = metrics:get_keys(0)
table.sort(names)
for _, name in ipairs(names) do
  local status = name:match("^status_(%d+)$")
  if status then ngx.say('gateway_responses_total{status="', status, '"} ', metrics:get(name)) end
end
ngx.say("# TYPE gateway_request_seconds_total counter")
ngx.say("gateway_request_seconds_total ", ("%.3f"):format(metrics:get("seconds") or 0))
