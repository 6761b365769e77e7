-- question: building, joining and searching short strings
-- expect: 1900000 200000
local t, n, hits = {}, 0, 0
for i = 1, 200000 do
  t[#t + 1] = ("%06d:%s"):format(i, "ab")
  if #t == 500 then
    local s = table.concat(t, ",")
    n = n + #s - 499 + 250
    for w in s:gmatch("%d+:") do hits = hits + (#w == 7 and 1 or 0) end
    t = {}
  end
end
print(n, hits)
