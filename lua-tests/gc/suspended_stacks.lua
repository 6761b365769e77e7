-- What `debug` puts into a coroutine that waits stays alive, whenever the collector has looked at its stack.
local function churn(n) for i = 1, n do local t = { i } end end
for rest = 0, 9 do
  local co = coroutine.create(function()
    local held, other = 1, 2
    coroutine.yield()
    return held.name, other.name, getfenv(0).name
  end)
  coroutine.resume(co)
  churn(30 + rest)
  debug.setlocal(co, 1, 1, { name = "held" .. rest })
  churn(rest)
  debug.setlocal(co, 1, 2, { name = "other" .. rest })
  debug.setfenv(co, { name = "environment" .. rest })
  churn(30)
  print(coroutine.resume(co))
end
