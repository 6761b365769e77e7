-- A hook that removes itself still is a hook: it cannot yield. Afterwards the coroutine yields as ever.
local seen
local co = coroutine.wrap(function()
  debug.sethook(function()
    debug.sethook()
    seen = { pcall(coroutine.yield, 1) }
  end, "l")
  local x = 1
  coroutine.yield(x + 1)
  return "end"
end)
print(co())
print(seen[1], seen[2])
print(co())
-- The same when the hook ends in an error.
local failing = coroutine.create(function()
  debug.sethook(function() debug.sethook() error("out of the hook", 0) end, "l")
  local x = 1
  return x
end)
print(coroutine.resume(failing))
local gen = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end)
print(gen(), gen(), gen())
-- A coroutine made and run by such a hook may yield.
debug.sethook(function()
  debug.sethook()
  local inner = coroutine.wrap(function() for i = 1, 200 do coroutine.yield(i) end end)
  local s = 0
  for _ = 1, 200 do s = s + inner() end
  print(s)
end, "l")
local y = 2
print(debug.gethook(), y)
