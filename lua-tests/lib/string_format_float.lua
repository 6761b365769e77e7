-- string.format, floats: all styles, flags and awkward values.
local values = {0, -0, 1, -1, 0.5, 1.5, 2.5, 0.1, 1/3, 123456789, 1e15, 1e16, 123456.789, 1e-5, 1e-10, 1e100, 1e308, 5e-324, 2^53, 2^-1074 * 3, 0.125, 99999.5, 999999.5, 9.9999995, 1/0, -1/0, 0/0}
for _, spec in ipairs{"%f", "%.0f", "%.1f", "%.3f", "%10.2f", "%-10.2f|", "%+.1f", "% .1f", "%010.2f", "%#.0f", "%e", "%.0e", "%.3e", "%E", "%12.2e", "%g", "%.0g", "%.3g", "%.10g", "%.14g", "%.17g", "%G", "%#g", "%#.3g", "%010g", "%a", "%.0a", "%.1a", "%.13a", "%.15a", "%A", "%20a", "%-20a|", "%020a", "%+a"} do
  io.write(spec)
  for _, v in ipairs(values) do io.write(" [", spec:format(v), "]") end
  print()
end
print(("%.99f"):format(1/3)) print(("%.50e"):format(0.1)) print(("%.40g"):format(2^200)) print(("%5.1f|%-8.3e|%08.2f"):format("3.14159", "1e10", "-2.5"))
