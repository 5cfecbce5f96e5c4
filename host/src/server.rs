//! The server's life: open the database, accept connections, and stop without losing anything.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::anyhow;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::config::Config;
use crate::engine::Engine;
use crate::exposure;
use crate::http::connections::{Connections, accept};
use crate::http::operator::OperatorSocket;
use crate::http::scrape;
use crate::registry::RegistryCommand;

/// The registry pings the sockets in this many groups, one after the other, so that pings do not come in bursts.
const PING_SLOTS: u32 = 30;
/// Time for sockets and requests to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that is ready: its database is open and its address bound.
pub struct Server {
    listener: TcpListener,
    operator: Option<OperatorSocket>,
    engine: Engine,
    metrics: Option<TcpListener>,
    ping_interval: Duration,
    head_timeout: Duration,
    stopped: oneshot::Receiver<()>,
}

/// Ends `Server::run`; so does dropping it.
pub struct Stopper(oneshot::Sender<()>);

impl Stopper {
    pub fn stop(self) {
        // If the server has already ended, nobody receives this.
        let _ = self.0.send(());
    }
}

impl Server {
    /// Binds the address before it opens the database: a second start on the same port changes nothing.
    pub async fn bind(config: &Config) -> anyhow::Result<(Server, Stopper)> {
        let address = config.address;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| cannot_listen(address, error))?;
        Self::open(config, listener).await
    }

    /// Listens on a socket that a service manager has bound, whatever HOST and PORT are.
    pub async fn adopt(
        config: &Config,
        listener: std::net::TcpListener,
    ) -> anyhow::Result<(Server, Stopper)> {
        let ip = listener.local_addr()?.ip();
        config.check_address(ip)?;
        if let Some(warning) = exposure::warning(ip, &config.trusted_proxies) {
            tracing::warn!("{warning}");
        }
        listener.set_nonblocking(true)?;
        Self::open(config, TcpListener::from_std(listener)?).await
    }

    async fn open(config: &Config, listener: TcpListener) -> anyhow::Result<(Server, Stopper)> {
        let metrics = match config.metrics_address {
            Some(address) => Some(scrape::bind(address).await?),
            None => None,
        };
        let engine = Engine::open(config).await?;
        let (stop, stopped) = oneshot::channel();
        let server = Server {
            listener,
            operator: OperatorSocket::beside(&config.database),
            engine,
            metrics,
            ping_interval: config.ping_interval,
            head_timeout: config.head_timeout,
            stopped,
        };
        Ok((server, Stopper(stop)))
    }

    /// The address it listens on. If PORT is 0, this has the port that the system chose.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address of its metrics.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Serves until the `Stopper` is used. Then it accepts no more connections, answers the requests it has, closes the sockets
    /// with 1001 and commits what is queued. Whatever clients do, this ends in bounded time.
    pub async fn run(self) -> anyhow::Result<()> {
        let Server {
            listener,
            operator,
            mut engine,
            metrics,
            ping_interval,
            head_timeout,
            stopped,
        } = self;
        let (services, commands) = (engine.services.clone(), engine.commands.clone());
        let _metrics = metrics.map(|listener| {
            AbortOnDropHandle::new(tokio::spawn(scrape::serve(listener, services.clone())))
        });
        engine.join_bus();
        let operator = operator.map(|socket| {
            AbortOnDropHandle::new(tokio::spawn(socket.serve(services.clone(), head_timeout)))
        });
        let connections = Connections::new(head_timeout);
        {
            let _heartbeats =
                AbortOnDropHandle::new(tokio::spawn(heartbeats(commands.clone(), ping_interval)));
            let _cluster = AbortOnDropHandle::new(tokio::spawn(engine.run_cluster()));
            tokio::select! {
                () = accept(&listener, &services, &connections) => {}
                _ = stopped => {}
            }
        }
        drop(listener);
        tracing::info!("stopping");
        services.tasks.close();
        connections.tasks.close();
        connections.stopping.cancel();
        let ended = async {
            // This cannot fail: the registry lives as long as the store.
            let _ = commands.send(RegistryCommand::Shutdown).await;
            connections.tasks.wait().await;
            services.tasks.wait().await;
        };
        if timeout(STOP_TIMEOUT, ended).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        if let Some(operator) = operator {
            operator.abort();
            // It ends at once, and has removed its file then.
            let _ = operator.await;
        }
        drop(commands);
        engine.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Says what to do if an address cannot be bound.
fn cannot_listen(address: SocketAddr, error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program does. Stop it, or set PORT to another number".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "not permitted. Ports below 1024 need root: set PORT to a higher one".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "HOST is not an address of this machine".to_owned(),
        _ => error.to_string(),
    };
    anyhow!("cannot listen on {address}: {advice}")
}

/// Pings the sockets. Just as often, tells a service manager that watches the program that it is alive; if the registry hangs,
/// both stop. After a pause of the program, or of the registry, missed pings are not made up for: their sockets would have no
/// time to answer.
async fn heartbeats(commands: mpsc::Sender<RegistryCommand>, ping_interval: Duration) {
    let mut ticks = interval(ping_interval / PING_SLOTS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let slots = u64::from(PING_SLOTS);
    for slot in (0..slots).cycle() {
        ticks.tick().await;
        let (done, is_done) = oneshot::channel();
        let heartbeat = RegistryCommand::Heartbeat { slot, slots, done };
        if commands.send(heartbeat).await.is_err() || is_done.await.is_err() {
            return;
        }
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::engine::COMMANDS_QUEUED_MAX;

    /// Blocking the only thread of the test is what a pause is for the program.
    #[tokio::test]
    async fn after_a_pause_pings_are_as_far_apart_as_ever() {
        let (commands, mut commanded) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let pause = Duration::from_millis(100);
        let beating = tokio::spawn(heartbeats(commands, pause * PING_SLOTS));
        let mut beat = async || match commanded.recv().await {
            Some(RegistryCommand::Heartbeat { slot, done, .. }) => {
                done.send(()).expect("it waits");
                slot
            }
            _ => panic!("a heartbeat"),
        };
        assert_eq!(beat().await, 0);
        std::thread::sleep(10 * pause);
        let resumed = Instant::now();
        assert_eq!((beat().await, beat().await), (1, 2));
        // A little less, because timers are exact to a millisecond.
        assert!(
            resumed.elapsed() > pause * 9 / 10,
            "{:?}",
            resumed.elapsed()
        );
        beating.abort();
    }
}
