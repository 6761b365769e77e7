//! The application that the processes run: configuration, phases and Lua put together.
//!
//! One `Gateway` per configuration: made in the master (zones mapped, VM made,
//! `init_by_lua` run), forked, started in each worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use moonlit_vm::host::Lua;

use crate::app::{Accepted, App, AppFactory, Socket, WorkerInfo};
use crate::conf::ChunkCheck;
use crate::conf::directives::limits::LimitZone;
use crate::conf::model::{Config, Level};
use crate::conf::settings::WorkerCount;
use crate::conf::upstream::Upstream;
use crate::counters::Counters;
use crate::flow::{self, connection};
use crate::http1::conn::{Conn, Transport};
use crate::log::Logs;
use crate::lua::bridge::{LuaScripts, run_detached, run_init};
use crate::lua::worker::{LuaWorker, VmMaker};
use crate::phase::Phase;
use crate::request::spare::Spare;
use crate::request::{Env, Stats};
use crate::shared::pids::PidTable;
use crate::shared::sessions::Sessions;
use crate::shared::shdict::ShDict;
use crate::tls::cache::SessionMemory;
use crate::upstream::proxy::Proxy;
use crate::upstream::resolvers::Resolvers;
use crate::upstream::zone::GroupZone;
use crate::upstream::{Upstreams, watch};
use crate::{api, http1};

/// Makes VMs: a plain interpreter, or one with JIT and ffi.
pub trait VmFactory {
    /// A fresh VM with all its libraries.
    fn make(&self) -> Lua;

    /// The same, for states on other threads.
    fn maker(&self) -> VmMaker;
}

impl<F: Fn() -> Lua + Clone + Send + Sync + 'static> VmFactory for F {
    fn make(&self) -> Lua {
        self()
    }

    fn maker(&self) -> VmMaker {
        Arc::new(self.clone())
    }
}

/// Makes gateways.
pub struct Gateways<V> {
    /// Where their VMs come from.
    pub vms: V,
}

/// An HTTP server with Lua.
pub struct Gateway {
    config: Arc<Config>,
    logs: Arc<Logs>,
    dicts: HashMap<String, Arc<ShDict>>,
    zones: Vec<Arc<ShDict>>,
    upstream_zones: Vec<Option<Arc<GroupZone>>>,
    counters: Arc<Counters>,
    lua: Option<Rc<LuaWorker>>,
    worker: RefCell<Option<Rc<flow::Worker>>>,
    upstreams: RefCell<Option<Rc<Upstreams>>>,
    draining: Rc<tokio::sync::Notify>,
}

impl<V: VmFactory> AppFactory for Gateways<V> {
    type App = Gateway;

    fn prepare(
        &self,
        config: &Arc<Config>,
        logs: &Arc<Logs>,
        old: Option<&Gateway>,
    ) -> Result<Gateway, String> {
        let mut dicts = HashMap::new();
        let mut lua = None;
        let mut zones = Vec::new();
        let mut upstream_zones = Vec::new();
        if let Some(http) = &config.http {
            for z in &http.limit_zones {
                zones.push(limit_zone(z, old)?);
            }
            for z in &http.session_zones {
                let memory = session_zone(z, old)?;
                // The configuration is new: nobody has set it before.
                let _ = z.memory.set(memory);
            }
            for group in &http.upstreams {
                upstream_zones.push(upstream_zone(group, &http.upstreams, old)?);
            }
            for d in &http.lua.shared_dicts {
                let kept = old.and_then(|o| o.dicts.get(&d.name)).filter(|z| z.capacity() == d.size_bytes);
                let zone = match kept {
                    Some(z) => z.clone(),
                    None => Arc::new(
                        ShDict::new(&d.name, d.size_bytes, zone_alert)
                            .map_err(|e| format!("mmap({}) failed ({e})", d.size_bytes))?,
                    ),
                };
                dicts.insert(d.name.clone(), zone);
            }
            if http.lua.used.iter().any(|u| *u) {
                lua = Some(make_lua(&self.vms, config, logs, &dicts)?);
            }
        }
        // Counting goes on over changes of the configuration.
        let counters = match old {
            Some(old) => old.counters.clone(),
            None => {
                let counters = Counters::new(worker_slots(config) + 1);
                Arc::new(counters.map_err(|e| format!("mmap() failed ({e})"))?)
            }
        };
        Ok(Gateway {
            config: config.clone(),
            logs: logs.clone(),
            dicts,
            zones,
            upstream_zones,
            counters,
            lua,
            worker: RefCell::new(None),
            upstreams: RefCell::new(None),
            draining: Rc::new(tokio::sync::Notify::new()),
        })
    }

    fn chunk_check(&self) -> Box<dyn ChunkCheck> {
        Box::new(Check(self.vms.make()))
    }
}

/// The memory of a zone: the one that is there if nothing about it has changed.
fn limit_zone(zone: &LimitZone, old: Option<&Gateway>) -> Result<Arc<ShDict>, String> {
    let kept = old.and_then(|old| {
        let known = &old.config.http.as_ref()?.limit_zones;
        let same = |z: &LimitZone| {
            z.name == zone.name
                && z.size_bytes == zone.size_bytes
                && z.key_text == zone.key_text
                && z.rate.is_some() == zone.rate.is_some()
        };
        old.zones.get(known.iter().position(same)?).cloned()
    });
    match kept {
        Some(zone) => Ok(zone),
        None => ShDict::new(&zone.name, zone.size_bytes, zone_alert)
            .map(Arc::new)
            .map_err(|e| format!("mmap({}) failed ({e})", zone.size_bytes)),
    }
}

/// The memory of a zone of sessions: the one that is there if its size is the same.
fn session_zone(
    zone: &crate::tls::cache::Zone,
    old: Option<&Gateway>,
) -> Result<Arc<dyn SessionMemory>, String> {
    let kept = old.and_then(|old| {
        let known = &old.config.http.as_ref()?.session_zones;
        let same = known.iter().find(|z| z.name == zone.name && z.size_bytes == zone.size_bytes)?;
        same.memory.get().cloned()
    });
    match kept {
        Some(memory) => Ok(memory),
        None => Sessions::new(&zone.name, zone.size_bytes, zone_alert)
            .map(|s| Arc::new(s) as Arc<dyn SessionMemory>)
            .map_err(|e| format!("mmap({}) failed ({e})", zone.size_bytes)),
    }
}

/// The part of a group in its zone: made anew with each configuration, but for the addresses of names.
fn upstream_zone(
    group: &Arc<Upstream>,
    all: &[Arc<Upstream>],
    old: Option<&Gateway>,
) -> Result<Option<Arc<GroupZone>>, String> {
    let Some(zone) = &group.zone else { return Ok(None) };
    let sharing = || all.iter().filter_map(|g| g.zone.as_ref()).filter(|z| z.name == zone.name);
    let size = sharing().map(|z| z.size_bytes).max().unwrap_or(0) / sharing().count().max(1);
    let known = old.and_then(|old| {
        let groups = &old.config.http.as_ref()?.upstreams;
        let at = groups.iter().position(|g| g.explicit && g.name == group.name)?;
        Some((&**old.upstream_zones.get(at)?.as_ref()?, &groups[at]))
    });
    match GroupZone::new(group, size, known) {
        Ok(zone) => Ok(Some(Arc::new(zone))),
        Err(e) if e.kind() == std::io::ErrorKind::StorageFull => {
            Err(format!("upstream zone \"{}\" is too small for the servers of \"{}\"", zone.name, group.name))
        }
        Err(e) => Err(format!("mmap({size}) failed ({e})")),
    }
}

/// Zones as the phases see them.
struct SharedZones(Vec<Arc<ShDict>>);

impl flow::Zones for SharedZones {
    fn update(
        &self,
        zone: usize,
        key: &[u8],
        ttl_ms: u64,
        change: &mut dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> bool {
        self.0.get(zone).is_some_and(|z| z.update(key, ttl_ms, http1::clock::now_ms(), change))
    }
}

impl Gateway {
    fn zones(&self) -> Option<Rc<dyn flow::Zones>> {
        (!self.zones.is_empty()).then(|| Rc::new(SharedZones(self.zones.clone())) as Rc<dyn flow::Zones>)
    }
}

/// Zones have no log of their own: their alerts go where everything goes that has no better place.
fn zone_alert(text: &str) {
    let line = crate::log::error_line(Level::Alert, None, text.as_bytes());
    let _ = std::io::Write::write_all(&mut std::io::stderr(), &line);
}

struct Check(Lua);

impl ChunkCheck for Check {
    fn check(&mut self, code: &[u8], name: &str) -> Result<(), String> {
        self.0
            .with(|vm| vm.load(code, name.as_bytes(), b"t", None))
            .map(|_| ())
            .map_err(|e| String::from_utf8_lossy(&e).into_owned())
    }
}

/// A VM with the API in it, after `init_by_lua`.
pub fn make_lua(
    vms: &impl VmFactory,
    config: &Arc<Config>,
    logs: &Arc<Logs>,
    dicts: &HashMap<String, Arc<ShDict>>,
) -> Result<Rc<LuaWorker>, String> {
    let vm = vms.make();
    // The process may still fork: nothing is compiled until a worker starts.
    vm.with(|vm| vm.hold_jit(true));
    let w = LuaWorker::new(vm, config.clone(), logs.clone(), dicts.clone());
    // Set once, here and below: the worker has just been made.
    let _ = w.maker.set(vms.maker());
    let base = Rc::downgrade(&w);
    let _ = w.fresh.set(Box::new(move || {
        let base = base.upgrade().ok_or("the worker is gone")?;
        let make = base.maker.get().ok_or("there is no maker of VMs")?;
        let own = LuaWorker::beside(&base, make());
        prepare_vm(&own).inspect_err(|_| own.release())?;
        Ok(own)
    }));
    let pids = PidTable::new(worker_slots(config)).map_err(|e| format!("mmap() failed ({e})"))?;
    let _ = w.pids.set(Arc::new(pids));
    http1::clock::update();
    crate::cpu_time::adopt();
    prepare_vm(&w)?;
    Ok(w)
}

/// Fills a VM: search paths, the API, what `init_by_lua*` makes.
fn prepare_vm(w: &Rc<LuaWorker>) -> Result<(), String> {
    let limit = w.http().lua.settings.lua_memory_limit;
    if limit > 0 {
        let bytes = usize::try_from(limit).unwrap_or(usize::MAX);
        w.lua.set_memory_limit(bytes).map_err(|e| e.to_string())?;
    }
    set_paths(w);
    api::install(w);
    if let Some(code) = &w.http().lua.init {
        run_init(w, code)?;
    }
    api::guard::install(w);
    Ok(())
}

/// How many workers the configuration asks for.
fn worker_slots(config: &Config) -> usize {
    match config.main.worker_processes {
        WorkerCount::Fixed(n) => n as usize,
        WorkerCount::Auto => std::thread::available_parallelism().map_or(1, |n| n.get()),
    }
}

/// `lua_package_path` and `lua_package_cpath`: `$prefix` and `;;` are filled in.
fn set_paths(w: &Rc<LuaWorker>) {
    let settings = &w.http().lua.settings;
    let prefix = w.config.prefix.to_string_lossy().into_owned();
    for (name, value) in [("path", &settings.lua_package_path), ("cpath", &settings.lua_package_cpath)] {
        if value.is_empty() {
            continue;
        }
        w.enter(|vm| {
            let Some(package) = vm.global(b"package").as_obj::<moonlit_vm::host::native::Table>() else {
                return;
            };
            let default = package.get_bytes(&vm.heap, name.as_bytes());
            let default = String::from_utf8_lossy(&vm.raw_text(default)).into_owned();
            let mut text =
                String::from_utf8_lossy(value).replace("${prefix}", &prefix).replace("$prefix", &prefix);
            if text.ends_with(";;") {
                text.truncate(text.len() - 1);
                text.push_str(&default);
            } else {
                text = text.replace(";;", &format!(";{default};"));
            }
            let v = crate::lua::args::string(vm, text);
            crate::lua::args::set_field(vm, package, name.as_bytes(), v);
        });
    }
}

impl App for Gateway {
    fn wants_privileged_agent(&self) -> bool {
        self.lua.as_ref().is_some_and(|l| l.privileged_agent.get())
    }

    async fn start(self: Rc<Self>, worker: WorkerInfo) {
        http1::clock::update();
        crate::cpu_time::adopt();
        let stats = Stats::new(self.counters.clone(), worker.id as usize);
        let env = Rc::new(Env::new(self.config.clone(), self.logs.clone(), stats));
        let scripts = self.lua.as_ref().map(|l| Rc::new(LuaScripts(l.clone())) as Rc<dyn flow::Scripts>);
        let upstreams = self.config.http.as_ref().map(|http| Upstreams::new(http, &self.upstream_zones));
        let resolvers = match &self.lua {
            Some(lua) => lua.resolvers.clone(),
            None => Resolvers::new(&self.config, &self.logs),
        };
        if let (Some(http), Some(upstreams)) = (&self.config.http, &upstreams)
            && worker.id == 0
            && !worker.privileged
        {
            let log = watch::Log { logs: self.logs.clone(), to: http.level.error_logs.clone() };
            watch::begin(upstreams, &resolvers, &log, &self.draining);
        }
        let proxy = upstreams.as_ref().map(|upstreams| {
            let upstreams = upstreams.clone();
            Rc::new(Proxy { upstreams, resolvers: resolvers.clone() }) as Rc<dyn flow::Handler>
        });
        *self.upstreams.borrow_mut() = upstreams;
        let flow =
            Rc::new(flow::Worker { env, spare: Spare::default(), scripts, proxy, zones: self.zones() });
        *self.worker.borrow_mut() = Some(flow.clone());
        if let Some(lua) = &self.lua {
            lua.enter(|vm| vm.hold_jit(false));
            lua.info.set(Some(worker));
            if let (Some(pids), false) = (lua.pids.get(), worker.privileged) {
                pids.set(worker.id as usize, std::process::id());
            }
            // Set once: a worker starts once.
            let _ = lua.flow.set(flow);
            if let Some(upstreams) = &*self.upstreams.borrow() {
                let _ = lua.upstreams.set(upstreams.clone());
            }
            if let Some(code) = &lua.http().lua.init_worker {
                run_detached(lua, Phase::InitWorker, code).await;
            }
        }
    }

    fn serve(self: Rc<Self>, accepted: Accepted) -> impl Future<Output = ()> {
        // The worker may have slept for long: deadlines count from now.
        http1::clock::update();
        let io = match accepted.socket {
            Socket::Tcp(s) => {
                // Responses go out in one write; waiting for more would only add latency.
                let _ = s.set_nodelay(true);
                Transport::Tcp(s)
            }
            Socket::Unix(s) => Transport::Unix(s),
        };
        let worker = self.worker.borrow().clone().expect("a worker starts before it accepts");
        let conn = Rc::new(Conn::new(io, accepted.peer, accepted.local, accepted.id));
        // Nothing but the connection's own future: it is all that an idle connection keeps.
        connection::serve(worker, conn, accepted.listen)
    }

    fn drain(&self) {
        if let Some(w) = &*self.worker.borrow() {
            w.env.exiting.set(true);
        }
        if let Some(upstreams) = &*self.upstreams.borrow() {
            upstreams.drain();
        }
        self.draining.notify_waiters();
        // Idle connections look whether the worker stops.
        http1::deadline::wake_all();
        if let Some(lua) = &self.lua {
            let n = lua.timers.pending.get();
            if n > 0 {
                lua.debug_plain(|| "lua abort pending timers");
                lua.debug_plain(|| format!("lua found {n} pending timers to be aborted prematurely"));
            }
            lua.draining.notify_waiters();
        }
    }

    fn pending(&self) -> usize {
        self.lua.as_ref().map_or(0, |l| l.timers.pending.get() + l.timers.running.get())
    }

    async fn finish(self: Rc<Self>) {
        if let Some(lua) = &self.lua
            && let Some(code) = &lua.http().lua.exit_worker
        {
            run_detached(lua, Phase::ExitWorker, code).await;
        }
        if let Some(lua) = &self.lua {
            lua.forget_runs();
        }
    }
}
