-- question: arrays of arrays: places on a board, products of matrices, comparisons of numbers
-- expect: 724 255960 62500 50
local function free(rows, n, c)
  for i = 1, n - 1 do
    local r = rows[i]
    if r == c or r - i == c - n or rows[i] + i == c + n then return false end
  end
  return true
end
local boards, size, rows = 0, 10, {}
local function place(n)
  if n > size then boards = boards + 1 return end
  for c = 1, size do
    if free(rows, n, c) then rows[n] = c place(n + 1) end
  end
end
place(1)
local function matrix(n, f)
  local m = {}
  for i = 1, n do
    local row = {}
    for j = 1, n do row[j] = f(i, j) end
    m[i] = row
  end
  return m
end
local function product(a, b, n)
  return matrix(n, function(i, j)
    local s, row = 0, a[i]
    for k = 1, n do s = s + row[k] * b[k][j] end
    return s
  end)
end
local n = 80
local m = product(matrix(n, function(i, j) return (i + j) % 3 end), matrix(n, function(i, j) return i == j and 0.5 or 0 end), n)
m = product(m, matrix(n, function() return 1 end), n)
local trace = 0
for i = 1, n do for j = 1, n do if m[i][j] > 39 then trace = trace + m[i][j] end end end
local sheet = matrix(250, function(i, j) return (i * j) % 7 end)
for _ = 1, 12 do
  for i = 2, 249 do
    local up, here, down = sheet[i - 1], sheet[i], sheet[i + 1]
    for j = 2, 249 do
      local around = up[j] + down[j] + here[j - 1] + here[j + 1]
      if around ~= 12 then here[j] = around % 7 elseif here[j] ~= 3 then here[j] = 3 end
    end
  end
end
local cells, threes = 0, 0
for i = 1, #sheet do for j = 1, #sheet[i] do cells = cells + 1 if sheet[i][j] == 3 then threes = threes + 1 end end end
print(boards, trace, cells, threes % 100)
