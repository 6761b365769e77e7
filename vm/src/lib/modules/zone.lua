-- jit.zone: a stack of names that says what the program is doing. The profiler shows its top.

local stack = {}

local zone = {}

-- The innermost zone; nil outside of all.
function zone:get()
  return stack[#stack]
end

-- Leaves all zones.
function zone:flush()
  for i = #stack, 1, -1 do stack[i] = nil end
end

-- zone(name) enters a zone, zone() leaves the innermost one and returns its name.
local function enter_or_leave(_, name)
  if name then
    stack[#stack + 1] = name
    return
  end
  local top = stack[#stack]
  if top == nil then error("empty zone stack", 2) end
  stack[#stack] = nil
  return top
end

return setmetatable(zone, { __call = enter_or_leave })
