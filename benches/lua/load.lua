-- question: compiling sources of many small functions
-- expect: 18000 529524000
local parts = {}
for i = 1, 120 do
  parts[#parts + 1] = ([[
    function M.f%d(a, b, ...)
      local t, n = {name = "f%d", list = {a, b, %d}}, select("#", ...)
      if a == nil then return n elseif not b then b = a * 2 end
      for i = 1, n do t[i] = (select(i, ...)) .. "" end
      for k, v in pairs(t) do if type(v) == "table" and #v > 2 then n = n + v[3] end end
      while n > 1e6 do n = n - (b or 1) %% 7 end
      local function inner(x) return x + n, function() a = a + x return a end end
      return n + (inner(0)), t.name:sub(1, 1) == 'f' and a or {[b] = inner}
    end
  ]]):format(i, i, i * 3)
end
local source, made, sum = "local M = {} " .. table.concat(parts, "\n") .. " return M", 0, 0
for round = 1, 150 do
  local M = assert(loadstring(source, "=round" .. round))()
  for i = 1, 120 do
    made = made + 1
    sum = sum + M["f" .. i](1, 2) + round * 390 - 390 + 0
  end
end
print(made, ("%d"):format(sum))
