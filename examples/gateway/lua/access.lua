-- Key check and rate limit: a fixed window of one second per key, counted in a shared dictionary.
local keys = require "keys"
local json = require "json"

local function refuse(status, message)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.say(json.encode {error = message})
  return ngx.exit(status)
end

local key = ngx.req.get_headers()["X-Api-Key"]
if not key then return refuse(401, "missing X-Api-Key") end

local entry, err = keys.lookup(key)
if entry == nil then
  ngx.log(ngx.ERR, "key store: ", err)
  return refuse(503, "key store does not answer")
end
if not entry then return refuse(403, "unknown key") end

local window = key .. ":" .. math.floor(ngx.now())
local count, incr_err = ngx.shared.limits:incr(window, 1, 0, 2)
if not count then
  ngx.log(ngx.ERR, "limits: ", incr_err)
elseif count > entry.rate then
  ngx.header["Retry-After"] = 1
  return refuse(429, "rate limit of " .. entry.rate .. " per second reached")
end

ngx.ctx.entry = entry
ngx.var.api_user = entry.user
