//! The program: reads the environment, then serves, or runs one command.

use std::io::{Write, stderr, stdout};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use host::commands::{backup, check, copy, downgrade, event, health, restore};
use host::{Config, Server, log};
use listenfd::ListenFd;
use mimalloc::MiMalloc;
use once_cell::sync::Lazy;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// With the commit it was built from, where whoever builds it says so.
static VERSION: Lazy<String> = Lazy::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("COMMIT") {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    }
});

/// A chat backend: HTTP for accounts, JSON events on one WebSocket. Without a command it serves.
/// Configured by environment variables; see README.md.
#[derive(Parser)]
#[command(name = "chatapp", version = VERSION.as_str())]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one event against DBPATH, without a server, and prints as lines of JSON: {"reply": …}; each
    /// {"push": …, "to": {"users": [ids]} or {"conversation": id}}; {"join" or "leave": {"conversation": id, "users": [ids]}}.
    /// Exits with 1 where the event was refused.
    Event {
        /// The username of the caller.
        #[arg(long)]
        user: String,
        /// The event, for example '{"type": "self"}'.
        event: String,
    },
    /// Copies the data file to a new file while a server may go on writing, and verifies the copy.
    Backup {
        /// The file to make.
        file: PathBuf,
    },
    /// Verifies a backup and puts it in the place of the data file, which stays beside it under another name. No server may
    /// be running on it.
    Restore {
        /// The backup.
        file: PathBuf,
    },
    /// Says whether the configuration is valid and the data file whole. Changes nothing.
    Check {
        /// Another data file than DBPATH, such as a backup.
        file: Option<PathBuf>,
    },
    /// Takes the schema of DBPATH back to that of the previous release, which would refuse the present one. Nothing that users
    /// have written is lost. No server may be running on it.
    Downgrade,
    /// Asks the server of HOST and PORT whether it is ready; exits with 1 where it is not.
    Health,
    /// Copies a chat from one database to another, each the path of a file or the URL of a libSQL server, verifies the copy by
    /// checksums, and prints them. No server may be running on either. Where it is interrupted, the same command goes on.
    Copy {
        /// The database to read. A token goes into DB_AUTH_TOKEN, or where both are remote, FROM_DB_AUTH_TOKEN.
        from: String,
        /// The database to fill: none yet, or one without users. A token goes into DB_AUTH_TOKEN.
        to: String,
        /// Drops the incomplete copy that is in TO, and begins anew.
        #[arg(long)]
        restart: bool,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // Where even this cannot be written, the exit code has to say it.
            let _ = writeln!(stderr(), "chatapp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    // While there is but one thread: it takes its variables away.
    let inherited = ListenFd::from_env().take_tcp_listener(0)?;
    let arguments = Arguments::parse();
    // A copy is between databases of its own, whatever this host would be served with.
    let is_copy = matches!(arguments.command, Some(Command::Copy { .. }));
    let variable = |name: &str| std::env::var_os(name);
    let (config, warnings) = Config::read(|name| variable(name).filter(|_| !is_copy))?;
    let _log = log::init(&config)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let command = match arguments.command {
        Some(command) => command,
        None => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            raise_file_limit();
            let served = runtime.block_on(serve(&config, inherited));
            // A thread that still waits for a remote database is not waited for.
            runtime.shutdown_background();
            served?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let mut output = stdout();
    let is_done = runtime.block_on(async {
        match command {
            Command::Event { user, event } => {
                return event::run(&config, &user, &event, &mut output).await;
            }
            Command::Backup { file } => {
                let contents = backup::backup(&config, &file).await?;
                writeln!(output, "{}: {contents}", file.display())?;
            }
            Command::Restore { file } => {
                let (contents, replaced) = restore::restore(&config, &file).await?;
                writeln!(output, "{}: {contents}", config.database)?;
                if let Some(replaced) = replaced {
                    writeln!(output, "what was there is now {}", replaced.display())?;
                }
            }
            Command::Check { file } => {
                for warning in warnings {
                    writeln!(output, "{warning}")?;
                }
                writeln!(output, "{}", check::check(&config, file.as_deref()).await?)?;
            }
            Command::Downgrade => {
                let version = downgrade::downgrade(&config).await?;
                let database = &config.database;
                writeln!(output, "{database}: schema version {version}")?;
            }
            Command::Health => writeln!(output, "{}", health::ask(config.address).await?)?,
            Command::Copy { from, to, restart } => {
                let (from, to) = Config::read_from_and_to(&from, &to, variable)?;
                copy::copy(from, to, restart).await?;
            }
        }
        anyhow::Ok(true)
    })?;
    Ok(ExitCode::from(u8::from(!is_done)))
}

async fn serve(config: &Config, inherited: Option<TcpListener>) -> anyhow::Result<()> {
    // Before anything else, so that a signal during the start stops it in good order too.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = async {
        match inherited {
            Some(listener) => Server::adopt(config, listener).await,
            None => Server::bind(config).await,
        }
    };
    let (server, stopper) = tokio::select! {
        bound = server => bound?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tracing::info!(
        "listening on http://{}, database {}, version {}",
        server.address()?,
        config.database,
        *VERSION
    );
    if let Some(address) = server.metrics_address() {
        tracing::info!("metrics on http://{address}/metrics");
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        stopper.stop();
    });
    // Where a service manager waits for it; it need not be there.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    server.run().await
}

/// Every socket is a file descriptor, and shells allow 1,024 unless asked for more.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
