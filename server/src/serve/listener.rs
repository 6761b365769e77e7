//! Listening sockets: bound in the master, inherited by workers and by the next configuration.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::os;

use crate::conf::error::os_text;
use crate::conf::model::{Config, Level, Listen, ListenAddr, ListenOptions};

/// How often an address in use is tried.
const BIND_TRIES: u32 = 5;
/// How long between two tries.
const BIND_PAUSE: Duration = Duration::from_millis(500);

/// A listening socket.
#[derive(Debug)]
pub enum ListenSocket {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

impl ListenSocket {
    /// Another name for the same socket, for a worker.
    pub fn share(&self) -> io::Result<ListenSocket> {
        Ok(match self {
            ListenSocket::Tcp(socket) => ListenSocket::Tcp(socket.try_clone()?),
            ListenSocket::Unix(socket) => ListenSocket::Unix(socket.try_clone()?),
        })
    }
}

/// The variable in which a binary that is replaced tells its successor the listening sockets, as nginx does.
pub const INHERITED: &str = "NGINX";

/// Sockets that the binary before this one has left open. To be called once, before anything is opened.
pub fn inherited() -> Vec<Bound> {
    let Some(list) = std::env::var_os(INHERITED) else { return Vec::new() };
    let mut bound: Vec<Bound> = Vec::new();
    for number in list.to_string_lossy().split(';').filter(|number| !number.is_empty()) {
        let Some(fd) = number.parse().ok().and_then(os::take_inherited) else { continue };
        let socket = Socket::from(fd);
        let _ = socket.set_cloexec(true);
        let _ = socket.set_nonblocking(true);
        let Ok(address) = socket.local_addr() else { continue };
        let reuseport = socket.reuse_port().unwrap_or(false);
        let (addr, socket) = match (address.as_socket(), address.as_pathname()) {
            (Some(addr), _) => (ListenAddr::Inet(addr), ListenSocket::Tcp(socket.into())),
            (None, Some(path)) => (ListenAddr::Unix(path.to_owned()), ListenSocket::Unix(socket.into())),
            _ => continue,
        };
        match bound.iter_mut().find(|known| known.addr == addr) {
            Some(known) => known.sockets.push(socket),
            None => bound.push(Bound { addr, listen: usize::MAX, sockets: vec![socket], reuseport }),
        }
    }
    bound
}

/// Descriptors of all sockets that a program started from here keeps, and the text that tells it which.
pub fn to_inherit(bound: &[Bound]) -> io::Result<(Vec<OwnedFd>, String)> {
    let mut kept = Vec::new();
    let mut text = String::new();
    for socket in bound.iter().flat_map(|bound| &bound.sockets) {
        let fd = match socket {
            ListenSocket::Tcp(socket) => os::inheritable(socket)?,
            ListenSocket::Unix(socket) => os::inheritable(socket)?,
        };
        text.push_str(&format!("{};", fd.as_raw_fd()));
        kept.push(fd);
    }
    Ok((kept, text))
}

/// The sockets of one address.
#[derive(Debug)]
pub struct Bound {
    /// The address.
    pub addr: ListenAddr,
    /// Index into `HttpConf::listens`.
    pub listen: usize,
    /// One that all workers share, or one for each with `reuseport`.
    pub sockets: Vec<ListenSocket>,
    reuseport: bool,
}

impl Bound {
    /// The socket of a worker.
    pub fn of_worker(&self, worker: u32) -> io::Result<ListenSocket> {
        self.sockets[worker as usize % self.sockets.len()].share()
    }
}

/// Binds every address of the configuration. Sockets of `old` are shared where address and mode are
/// the same. Failures go to `log` in nginx's words; `None` means that the server cannot start.
pub fn open(
    config: &Config,
    workers: u32,
    old: &[Bound],
    log: &mut dyn FnMut(Level, &str),
) -> Option<Vec<Bound>> {
    let mut bound: Vec<Bound> = Vec::new();
    let listens = config.http.as_ref().map_or(&[][..], |http| &http.listens);
    for tries_left in (0..BIND_TRIES).rev() {
        let mut in_use = false;
        let mut failed = false;
        for (index, listen) in listens.iter().enumerate().filter(|(_, listen)| listen.bind) {
            if bound.iter().any(|known| known.listen == index) {
                continue;
            }
            let wanted = if listen.options.reuseport { workers.max(1) as usize } else { 1 };
            let kept = old
                .iter()
                .find(|known| known.addr == listen.addr && known.reuseport == listen.options.reuseport);
            let mut sockets = Vec::new();
            let result = (0..wanted).try_for_each(|at| {
                sockets.push(match kept.and_then(|kept| kept.sockets.get(at)) {
                    Some(socket) => socket.share().map_err(|error| ("dup()", error))?,
                    None => bind(listen)?,
                });
                Ok(())
            });
            match result {
                Ok(()) => bound.push(Bound {
                    addr: listen.addr.clone(),
                    listen: index,
                    sockets,
                    reuseport: listen.options.reuseport,
                }),
                Err((call, error)) => {
                    let text = os_text(&error);
                    log(Level::Emerg, &format!("{call} to {} failed {text}", listen.addr));
                    let busy = io::Error::kind(&error) == io::ErrorKind::AddrInUse;
                    in_use |= busy;
                    failed |= !busy;
                }
            }
        }
        if failed {
            return None;
        }
        if !in_use {
            return Some(bound);
        }
        log(Level::Notice, "try again to bind() after 500ms");
        if tries_left > 0 {
            std::thread::sleep(BIND_PAUSE);
        }
    }
    log(Level::Emerg, "still could not bind()");
    None
}

fn bind(listen: &Listen) -> Result<ListenSocket, (&'static str, io::Error)> {
    let options = &listen.options;
    let (domain, address) = match &listen.addr {
        ListenAddr::Inet(addr) => (Domain::for_address(*addr), SockAddr::from(*addr)),
        ListenAddr::Unix(path) => {
            // A socket file left behind by a dead server is in the way.
            if std::os::unix::net::UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            {
                let _ = std::fs::remove_file(path);
            }
            (Domain::UNIX, SockAddr::unix(path).map_err(|error| ("bind()", error))?)
        }
    };
    let socket = Socket::new(domain, Type::STREAM, None).map_err(|error| ("socket()", error))?;
    set_options(&socket, domain, options).map_err(|error| ("setsockopt()", error))?;
    socket.bind(&address).map_err(|error| ("bind()", error))?;
    if let ListenAddr::Unix(path) = &listen.addr {
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666));
    }
    socket.listen(options.backlog).map_err(|error| ("listen()", error))?;
    socket.set_nonblocking(true).map_err(|error| ("ioctl(FIONBIO)", error))?;
    Ok(match &listen.addr {
        ListenAddr::Inet(_) => ListenSocket::Tcp(socket.into()),
        ListenAddr::Unix(_) => ListenSocket::Unix(socket.into()),
    })
}

fn set_options(socket: &Socket, domain: Domain, options: &ListenOptions) -> io::Result<()> {
    if domain != Domain::UNIX {
        socket.set_reuse_address(true)?;
    }
    if domain == Domain::IPV6 {
        socket.set_only_v6(options.ipv6only)?;
    }
    if options.reuseport {
        socket.set_reuse_port(true)?;
    }
    if let Some(bytes) = options.rcvbuf_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.sndbuf_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(probe) = options.so_keepalive {
        socket.set_keepalive(probe.on)?;
        if probe.on {
            let mut keepalive = socket2::TcpKeepalive::new();
            if let Some(seconds) = probe.idle_s {
                keepalive = keepalive.with_time(Duration::from_secs(seconds.into()));
            }
            if let Some(seconds) = probe.interval_s {
                keepalive = keepalive.with_interval(Duration::from_secs(seconds.into()));
            }
            if let Some(count) = probe.count {
                keepalive = keepalive.with_retries(count);
            }
            socket.set_tcp_keepalive(&keepalive)?;
        }
    }
    Ok(())
}

/// Removes the file of a Unix socket that is closed for good.
pub fn unlink(bound: &Bound) {
    if let ListenAddr::Unix(path) = &bound.addr {
        let _ = std::fs::remove_file(path);
    }
}
