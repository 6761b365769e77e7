-- Counts by status and sums the time spent; runs after the response has been sent.
local metrics = ngx.shared.metrics
metrics:incr("status_" .. ngx.status, 1, 0)
metrics:incr("requests", 1, 0)
metrics:incr("seconds", tonumber(ngx.var.request_time) or 0, 0)
