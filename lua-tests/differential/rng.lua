-- Random choices that are the same in every Lua: for programs whose output two implementations must agree on.
local R = {}
local state = tonumber(arg and arg[1]) or 1

-- An integer below n.
function R.below(n)
  state = (state * 16807) % 2147483647
  return state % n
end

for _ = 1, 5 do R.below(2) end

function R.pick(t) return t[R.below(#t) + 1] end
function R.chance(percent) return R.below(100) < percent end

-- A string of up to n pieces.
function R.string(pieces, n)
  local t = {}
  for i = 1, R.below(n + 1) do t[i] = R.pick(pieces) end
  return table.concat(t)
end

local special = { 0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2, 3, 10, 255, 256, 1e15, 1e16, 1e-5, 123456789, 2 ^ 31, 2 ^ 31 - 1,
  -2 ^ 31, 2 ^ 32, 2 ^ 53, 2 ^ 53 + 2, 2 ^ 63, -2 ^ 63, 1e300, -1e300, 1e-300, 5e-324, 1 / 0, -1 / 0, 0 / 0, 3.14159265358979,
  0.1, 1 / 3, 2 / 3, 99999.5, 1e100, 123.456 }

function R.number()
  local k = R.below(6)
  if k == 0 then return R.below(20) - 10 end
  if k == 1 then return R.below(2147483647) / (R.below(1000) + 1) end
  if k == 2 then return (R.below(2147483647) - 1073741823) * 2 ^ (R.below(200) - 100) end
  return R.pick(special)
end

-- Values as text that does not depend on addresses.
function R.show(v)
  if type(v) == "string" then return (("%q"):format(v):gsub("\n", "n"):gsub("[\128-\255]", function(c) return "\\" .. c:byte() end)) end
  if type(v) == "number" and v ~= v then return "nan" end
  if type(v) == "number" then return ("%.17g"):format(v) end
  if type(v) == "table" then
    local keys = {}
    for k in pairs(v) do keys[#keys + 1] = k end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    for i, k in ipairs(keys) do keys[i] = tostring(k) .. "=" .. R.show(v[k]) end
    return "{" .. table.concat(keys, ",") .. "}"
  end
  if type(v) == "function" or type(v) == "thread" or type(v) == "userdata" then return type(v) end
  return tostring(v)
end

function R.call(label, ...)
  local r = { n = select("#", pcall(...)), pcall(...) }
  return R.report(label, r)
end

function R.report(label, r)
  for i = 1, r.n do r[i] = R.show(r[i]) end
  print(label, table.concat(r, " ", 1, r.n))
end

return R
