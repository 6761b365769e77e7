-- Modulo at the edges: signs of zero, infinities, halves at the limit of the mantissa.
local v = {0, -0, 1, -1, 2.5, -2.5, 3, -3, 7, 1e15, -1e15, 2^53, -2^53, 1e300, 0.1, -0.1, 1/0, -1/0, 0/0, 5e-324, 4503599627370495.5, -4503599627370495.5}
local o = {}
for _, a in ipairs(v) do for _, b in ipairs(v) do local r = a % b o[#o+1] = r ~= r and "nan" or ("%.17g/%s"):format(r, 1/r < 0 and "-" or "+") end end
print(table.concat(o, " "))
for _, a in ipairs(v) do o[#o+1] = ("%s %s"):format(a % 7, a % -3) end print(table.concat(o, " "))
