-- print looks tostring up in the environment of the running coroutine, with metamethods.
local calls = {}
local function env(index) return setmetatable({}, { __index = index }) end
local function in_env(e, f)
  local co = coroutine.create(f)
  debug.setfenv(co, e)
  print("resume", coroutine.resume(co))
end
in_env(env({ tostring = function(v) return "<" .. type(v) .. ">" end }), function() print(1, nil, "x") end)
in_env(env(function(t, k) calls[#calls + 1] = k return function(v) return "[" .. type(v) .. "]" end end),
  function() print({}, 2) end)
print(table.concat(calls, " "))
in_env(env({ tostring = function() return {} end }), function() print(1) end)
in_env(env({}), function() print(1) end)

-- __tostring of numbers counts, that of strings does not
debug.setmetatable(1, { __tostring = function(n) return "number!" end })
debug.setmetatable(nil, { __tostring = function(n) return "nil!" end })
print(1, 2.5, nil, "s")
debug.setmetatable(1, nil)
debug.setmetatable(nil, nil)
print(1, nil)
