-- question: float math in a nested hot loop, no tables
-- expect: 2102473
local n, total = 800, 0
for y = 0, n - 1 do
  local ci = 2 * y / n - 1
  for x = 0, n - 1 do
    local cr, zr, zi, k = 2 * x / n - 1.5, 0, 0, 0
    while k < 50 do
      local r2, i2 = zr * zr, zi * zi
      if r2 + i2 > 4 then break end
      zi = 2 * zr * zi + ci
      zr = r2 - i2 + cr
      k = k + 1
    end
    if k == 50 then total = total + 7 else total = total + k % 3 end
  end
end
print(total)
