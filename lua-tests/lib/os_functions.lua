-- os.time, os.date, files and the environment.
print(os.time{year = 2020, month = 1, day = 1, hour = 12}, os.time{year = 2020, month = 1, day = 1}, os.time{year = 1970, month = 1, day = 1, hour = 0})
print(os.time{year = 2020, month = 14, day = -3, hour = 25, min = -5, sec = 100}, os.time{year = "2021", month = "6", day = "15", hour = "1"})
print(os.date("!%Y-%m-%d %H:%M:%S", 0), os.date("!%c", 0), os.date("!%x %X %p", 86399), os.date("!%A %a %B %b %d %j %U %w %y %Z %%", 1e9))
local function show(t) local ks = {} for k in pairs(t) do ks[#ks + 1] = k end table.sort(ks) for i, k in ipairs(ks) do ks[i] = k .. "=" .. tostring(t[k]) end return table.concat(ks, " ") end
print(show(os.date("!*t", 0))) print(show(os.date("*t", 951782400))) print(show(os.date("!*t", 1234567890)))
local now = os.time() print(os.time(os.date("*t", now)) == now, math.abs(os.time(os.date("!*t", now)) - now) < 50000)
print(#os.date() > 10, os.date("", 0) == "", os.date("!%H", 3600.9))
print(pcall(os.time, {})) print(pcall(os.time, {year = 2020})) print(pcall(os.time, {year = 2020, month = 1})) print(pcall(os.time, {year = "x", month = 1, day = 1})) print(pcall(os.date, "*t", "x")) print(pcall(os.time, 5))
print(os.difftime(10, 4), os.difftime(5), type(os.clock()), os.clock() >= 0, type(os.time()))
print(os.getenv("NO_SUCH_VARIABLE"), type(os.getenv("PATH")), os.getenv(""), os.getenv("A=B"))
local n1, n2 = os.tmpname(), os.tmpname() print(n1 ~= n2, io.open(n1) ~= nil) print(os.rename(n1, n2), io.open(n1) == nil, os.remove(n2))
print((select(2, os.remove("/nonexistent/x"))), (select(3, os.remove("/nonexistent/x")))) print((select(2, os.rename("/nonexistent/x", "/nonexistent/y")))) 
print(os.execute("exit 3"), os.execute("true"), os.execute() ~= nil) print(os.setlocale(), os.setlocale("C"), os.setlocale(nil, "all"), os.setlocale("xx_YY")) print(pcall(os.setlocale, "C", "bad"))
