-- Numbers with huge exponents; bit operations on numbers beside 64-bit data.
for _, s in ipairs { "1e1048575", "1e1048576", "1e-1048575", "1e-1048576", "0x1p1048575", "0x1p1048576", "0x1p-1048577",
  "1e99999999999", "0e1048576", "0x0p9999999999", "1e", "1e+", "0x1p", "1e0000000000000000000000000005" } do
  print(s, tonumber(s))
end
print(tonumber("0." .. ("0"):rep(999999) .. "1e1000000"))
print(tonumber("0." .. ("0"):rep(1048576) .. "1e1048577"))
print((loadstring("return 1e1048576")))
