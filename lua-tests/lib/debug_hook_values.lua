--- -jit
-- Hooks leave no trace in the values of the program they interrupt.
local t = {}
for i = 1, 26 do t[i] = i end
local function check(name, ...)
  local n = select("#", ...)
  for i = 1, n do if select(i, ...) ~= i then print(name, "differs at", i) end end
  print(name, n)
end
local function foo1(...) return ... end
local function foo2(...) local function dummy() end return ... end
local function foo3(...) do return ... end local function dummy() end end
local calls = 0
debug.sethook(function() local x = "wrong" calls = calls + 1 end, "", 1)
check("plain", foo1(unpack(t)))
check("closes", foo2(unpack(t)))
check("jumps", foo3(unpack(t)))
local u = { foo1(unpack(t)) }
debug.sethook()
print(#u, calls > 0)

-- a hook may set a parameter that was not given
local function foo5(a, b) return a, b end
debug.sethook(function()
  local name, val = debug.getlocal(2, 1)
  print(name, val, debug.setlocal(2, 1, "bar"))
  debug.sethook()
end, "c")
print(foo5())

-- a hook cannot yield: the instruction waits for it
local co = coroutine.create(function()
  debug.sethook(function() debug.sethook() coroutine.yield(1) end, "", 1)
  local x = 1
  return x
end)
print(coroutine.resume(co))
print(coroutine.status(co))
local co = coroutine.wrap(function()
  local inner = coroutine.wrap(function() coroutine.yield("inside") end)
  local got
  debug.sethook(function() debug.sethook() got = inner() end, "", 1)
  local x = 1
  return got
end)
print(co())

-- no room for a hook is a stack overflow like any other
for _, mask in ipairs { "l", "c", "r", "" } do
  local function deep() return 1 + deep() end
  debug.sethook(function() end, mask, mask == "" and 7 or 0)
  local ok, m = pcall(deep)
  debug.sethook()
  print(ok, (tostring(m):gsub("^[^:]*:%d+: ", "")))
end
