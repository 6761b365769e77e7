--- -zeal
-- A collection by hand sets a stopped collector going again.
local collected
local function watch()
  collected = false
  getmetatable(newproxy(true)).__gc = function() collected = true end
end
local function garbage_goes()
  watch()
  for i = 1, 1e6 do
    local s = { i }
    if collected then return true end
  end
  return false
end
collectgarbage("stop")
print(collectgarbage("isrunning"))
collectgarbage()
print(collectgarbage("isrunning"), garbage_goes())
collectgarbage("stop")
collectgarbage("step")
print(collectgarbage("isrunning"), garbage_goes())
collectgarbage("stop")
collectgarbage("restart")
print(collectgarbage("isrunning"), garbage_goes())
collectgarbage("stop")
print(garbage_goes())
