-- Patterns: find, match, gsub, gmatch on random patterns and subjects.
local R = require "rng"
local atoms = { "a", "b", ".", "%a", "%d", "%w", "%s", "%p", "%S", "%u", "%l", "%x", "[ab]", "[^a]", "[a-c]", "[%a_]", "[]]", "[^]]",
  "[a-]", "[%]]", "x", "%.", "%%", "1", "%g", "%c", "[%d%s]", "é" }
local quantifiers = { "", "", "", "*", "+", "-", "?" }
local function pattern()
  local t = {}
  if R.chance(15) then t[1] = "^" end
  for i = 1, 1 + R.below(5) do
    local k = R.below(20)
    if k == 0 then t[#t + 1] = "("
    elseif k == 1 then t[#t + 1] = ")"
    elseif k == 2 then t[#t + 1] = "()"
    elseif k == 3 then t[#t + 1] = "%b()"
    elseif k == 4 then t[#t + 1] = "%f[%w]"
    elseif k == 5 then t[#t + 1] = "%" .. R.below(4)
    elseif k == 6 then t[#t + 1] = "(" .. R.pick(atoms) .. R.pick(quantifiers) .. ")"
    else t[#t + 1] = R.pick(atoms) .. R.pick(quantifiers) end
  end
  if R.chance(15) then t[#t + 1] = "$" end
  if R.chance(3) then t[#t + 1] = R.pick { "%", "[", "[a", "[^", "%b", "%f", "%bx", "(" } end
  return table.concat(t)
end
local letters = { "a", "b", "c", "x", "1", "2", " ", "(", ")", "_", ".", "A", "%", "]", "-", "\0", "é" }
local repls = { "", "<%0>", "%1", "%2", "%%", "%", "%a", "x%", "%1%0", "%9" }
for i = 1, 4000 do
  local p, s = pattern(), R.string(letters, 12)
  local init = R.pick { 1, 1, 2, -1, -3, 5, 0, 100, -100 }
  local label = p .. " | " .. s:gsub("%z", "~")
  R.call("find " .. label, string.find, s, p, init)
  R.call("match " .. label, string.match, s, p, init)
  R.call("gsub " .. label, string.gsub, s, p, R.pick(repls), R.pick { nil, 1, 2, 0, -1 })
  R.call("gmatch " .. label, function()
    local out = {}
    for a, b in s:gmatch(p) do
      out[#out + 1] = tostring(a) .. "/" .. tostring(b)
      if #out > 30 then break end
    end
    return table.concat(out, ",")
  end)
  R.call("gsubf " .. label, string.gsub, s, p, function(a, b) return R.pick { a, false, nil, 1.5, "z" } end)
  R.call("gsubt " .. label, string.gsub, s, p, { a = "A", b = false, ["1"] = 7 })
end
