-- The API itself: GET answers what it knows of the request, POST echoes a body.
local json = require "json"

ngx.header["Content-Type"] = "application/json"

local path = ngx.var.uri:match("^/api/(.*)$")
if path == "hello" then
  local args = ngx.req.get_uri_args()
  ngx.say(json.encode {
    hello = args.name or ngx.ctx.entry.user,
    user = ngx.var.api_user,
    method = ngx.req.get_method(),
  })
elseif path == "echo" then
  ngx.req.read_body()
  local body = ngx.req.get_body_data() or ""
  ngx.say(json.encode {bytes = #body, body = body})
elseif path == "slow" then
  ngx.sleep(0.2)
  ngx.say(json.encode {slept = 0.2})
else
  ngx.status = 404
  ngx.say(json.encode {error = "no such endpoint: " .. path})
end
