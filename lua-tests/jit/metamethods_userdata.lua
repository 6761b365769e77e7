-- Metamethods of userdata, and inherited ones of tables, in compiled loops.
local function mk() local u=newproxy(true) local m=getmetatable(u) local st={v=0} m.__index=function(_,k) return st[k] end m.__newindex=function(_,k,v) st[k]=v end m.__add=function(a,b) return (type(a)=="userdata" and a.v or a)+(type(b)=="userdata" and b.v or b) end m.__call=function(self,x) return x+self.v end m.__eq=function(a,b) return true end m.__lt=function() return false end m.__len=function() return 42 end m.__unm=function(s) return -s.v end m.__concat=function(a,b) return "c" end return u,m end
local u,m=mk()
local w=newproxy(u)
local s=0
for i=1,200 do u.v=i s=s+u.v s=s+(u+1) s=s+u(2) s=s+ -u if u==w then s=s+1 end if u<w then s=s-1000 end s=s+#u end
print(s)
local t=setmetatable({},{__newindex=function(t,k,v) rawset(t,k,v*2) end})
for i=1,100 do t[i]=i end print(t[1],t[50],t[100])
local ro=setmetatable({},{__index=function(t,k) return k*2 end,__newindex=function() error("ro",0) end})
print(pcall(function() local s=0 for i=1,100 do s=s+ro[i] if i==90 then ro.x=1 end end end))
local c=setmetatable({},{__call=function(self,...) return select("#",...) end})
local n=0 for i=1,100 do n=n+c(i,i)+c() end print(n)
local o=setmetatable({},{__index=function(t,k) local v=#k t[k]=v return v end}) local q=0 for i=1,100 do q=q+o["k"..i%10] end print(q)
local Base={} Base.__index=Base function Base.new(v) return setmetatable({v=v},Base) end Base.__add=function(a,b) return Base.new(a.v+b.v) end Base.__eq=function(a,b) return a.v==b.v end Base.__le=function(a,b) return a.v<=b.v end
local acc=Base.new(0) local one=Base.new(1) local eqs=0 for i=1,300 do acc=acc+one if acc==Base.new(150) then eqs=eqs+1 end if acc<=one then eqs=eqs+1 end end print(acc.v,eqs)
