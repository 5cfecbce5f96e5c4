//! The program: reads the environment, then serves, or runs one command.

use std::io::{Write, stderr, stdout};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use handler::account::api_key::Scope;
use host::commands::{
    backup, check, copy, demo, downgrade, event, health, key, reach, reindex, report, restore, user,
};
use host::variables::{self, DEMO_JWT_SECRET};
use host::{Config, Server, log};
use listenfd::ListenFd;
use mimalloc::MiMalloc;
use once_cell::sync::Lazy;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Of what is logged here: the name of the library, so that LOG_LEVEL needs to know only one.
const TARGET: &str = "host";

/// The version, with the commit if the build was told of it.
static VERSION: Lazy<String> = Lazy::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("COMMIT") {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    }
});

/// A chat server: HTTP for accounts, JSON events on one WebSocket. Without a command it serves.
#[derive(Parser)]
#[command(name = "chatapp", version = VERSION.as_str(), after_help = variables::help())]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one event on DBPATH, without a server.
    ///
    /// DBPATH must have the schema of this program: the server upgrades it when it starts, this command does not.
    /// Prints lines of JSON: {"reply": …}; for each push {"push": …, "to": {"users": [ids]} or {"conversation": id}}; and
    /// {"join" or "leave": {"conversation": id, "users": [ids]}}. Exits with 1 if the event was refused.
    Event {
        /// The username of the caller.
        #[arg(long)]
        user: String,
        /// The event, for example '{"type": "self"}'.
        event: String,
    },
    /// Copies the data file to a new file and verifies the copy.
    ///
    /// A server may go on writing meanwhile.
    Backup {
        /// The file to make.
        file: PathBuf,
    },
    /// Verifies a backup and puts it in the place of the data file.
    ///
    /// The previous data file stays beside it under another name. No server may be running on the data file.
    Restore {
        /// The backup.
        file: PathBuf,
    },
    /// Says whether the configuration is valid and the data file is whole. Changes nothing.
    Check {
        /// A data file other than DBPATH, such as a backup.
        file: Option<PathBuf>,
    },
    /// Takes the schema of DBPATH back to that of the previous release.
    ///
    /// The previous release would refuse the present schema. Nothing that users have written is lost. No server may be
    /// running on DBPATH.
    Downgrade,
    /// Makes a new data file with three people and their conversations, to try the chat out.
    ///
    /// DBPATH must not exist yet. Anyone can log in as these people: it is not for a server that others can reach.
    Demo,
    /// Reads and settles what users have reported. A server may be running on DBPATH.
    Report {
        #[command(subcommand)]
        action: ReportAction,
    },
    /// Creates, lists, bans and deletes users.
    ///
    /// Works on DBPATH, whether a server is running on it or not; or with --server on one at an address.
    User {
        /// The address of a server, such as https://chat.example. API_KEY has a key with the scope users.
        #[arg(long)]
        server: Option<String>,
        #[command(subcommand)]
        action: UserAction,
    },
    /// Makes, lists and revokes API keys, with which other programs use the chat for its users. A server may be running
    /// on DBPATH.
    Key {
        #[command(subcommand)]
        action: KeyAction,
    },
    /// Makes the index of the search in DBPATH anew.
    ///
    /// A server fills the index by itself, so this is needed only if something is wrong with it. Shows the progress. No
    /// server may be running on DBPATH. If it is interrupted, the server goes on where it stopped.
    Reindex,
    /// Asks the server of HOST and PORT whether it is ready; exits with 1 if it is not.
    Health,
    /// Copies a chat from one database to another.
    ///
    /// Each is the path of a file or the URL of a libSQL server. Verifies the copy by checksums, and prints them. No server
    /// may be running on either. If it is interrupted, the same command goes on.
    Copy {
        /// The database to read. Its token goes into DB_AUTH_TOKEN or, if both are remote, into FROM_DB_AUTH_TOKEN.
        from: String,
        /// The database to fill: one that does not exist yet or has no users. Its token goes into DB_AUTH_TOKEN.
        to: String,
        /// Drops the incomplete copy that is in TO, and starts again.
        #[arg(long)]
        restart: bool,
    },
}

#[derive(Subcommand)]
enum UserAction {
    /// Creates a user. Without a password, the user logs in with tokens that your program signs.
    Add {
        username: String,
        /// The username, if it is not given.
        #[arg(long)]
        fullname: Option<String>,
        /// Reads a password from standard input.
        #[arg(long)]
        password: bool,
    },
    /// Lists all users, in the order of their names.
    List,
    /// Gives a user a new password, read from standard input, and ends all logins of the user.
    Password { username: String },
    /// Bans a user: logins are refused, and sockets are closed. What the user has written stays.
    Ban { username: String },
    /// Lifts a ban.
    Unban { username: String },
    /// Deletes a user. What the user has written stays, and is shown as sent by "deleted".
    Delete { username: String },
}

#[derive(Subcommand)]
enum KeyAction {
    /// Makes a key and prints it. It is not shown again.
    Create {
        /// What to call it, such as the name of the program that uses it.
        name: String,
        /// What it may do: users (create, change and delete them) or events (send them as any user). Without this, both.
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<Scope>,
    },
    /// Lists all keys, without what only their owners know.
    List,
    /// Revokes a key. Every host refuses it from then on.
    Revoke { name: String },
}

#[derive(Subcommand)]
enum ReportAction {
    /// Lists the open reports, the newest first.
    List {
        /// Closed ones too.
        #[arg(long)]
        all: bool,
        /// Only reports older than the one with this number.
        #[arg(long)]
        before: Option<i64>,
    },
    /// Shows one report, and the message that it is about.
    Show { id: i64 },
    /// Closes a report, with all others of the same message.
    Close {
        id: i64,
        /// Deletes the message. Connected clients see that with the next message in its conversation, or when they
        /// connect again.
        #[arg(long)]
        delete_message: bool,
        /// Bans the sender of the message.
        #[arg(long)]
        ban_sender: bool,
    },
}

/// The variables of commands that need no server.
const WITHOUT_SERVER: [&str; 6] = [
    "DBPATH",
    "DB_AUTH_TOKEN",
    "DB_AUTH_TOKEN_FILE",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "SEARCH",
];

/// The further variables of commands that may change users.
const AS_SERVER: [&str; 6] = [
    "API_KEY",
    "API_KEY_FILE",
    "NATS_URL",
    "NATS_URL_FILE",
    "NATS_CREDS",
    "PASSWORD_CHARS_MIN",
];

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // If even this cannot be written, the exit code still says it.
            let _ = writeln!(stderr(), "chatapp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    // It removes its variables, which is only safe while there is one thread.
    let inherited = ListenFd::from_env().take_tcp_listener(0)?;
    let arguments = Arguments::parse();
    let variable = |name: &str| std::env::var_os(name);
    let is_used = |name: &str| match &arguments.command {
        // A copy names its own databases; what a server would use does not matter to it.
        Some(Command::Copy { .. }) => false,
        // These need no server; how a server would be reached does not matter to them.
        Some(
            Command::Backup { .. }
            | Command::Restore { .. }
            | Command::Demo
            | Command::Downgrade
            | Command::Key { .. }
            | Command::Reindex
            | Command::Check { file: Some(_) },
        ) => WITHOUT_SERVER.contains(&name),
        // They may be a server for a moment.
        Some(Command::Report { .. } | Command::User { .. }) => {
            WITHOUT_SERVER.contains(&name) || AS_SERVER.contains(&name)
        }
        Some(Command::Check { file: None } | Command::Event { .. } | Command::Health) | None => {
            true
        }
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mistyped = variables::mistyped(names);
    let read = Config::read(|name| variable(name).filter(|_| is_used(name)));
    if read.is_err() {
        // Perhaps this is why: there is no log yet.
        for warning in &mistyped {
            writeln!(stderr(), "chatapp: {warning}")?;
        }
    }
    let (config, mut warnings) = read?;
    warnings.extend(mistyped);
    let _log = log::init(&config)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let command = match arguments.command {
        Some(command) => command,
        None => {
            for warning in warnings {
                tracing::warn!(target: TARGET, "{warning}");
            }
            raise_file_limit();
            let served = runtime.block_on(serve(&config, inherited));
            // It does not wait for a thread that still waits for a remote database.
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
                // They are about serving, not about a backup.
                let warnings = warnings.iter().filter(|_| file.is_none());
                for warning in warnings {
                    writeln!(output, "{warning}")?;
                }
                writeln!(output, "{}", check::check(&config, file.as_deref()).await?)?;
            }
            Command::Demo => writeln!(output, "{}", demo::demo(&config).await?)?,
            Command::Downgrade => {
                writeln!(output, "{}", downgrade::downgrade(&config).await?)?;
            }
            Command::Report { action } => match action {
                ReportAction::List { all, before } => {
                    report::list(&config, before, all, &mut output).await?;
                }
                ReportAction::Show { id } => report::show(&config, id, &mut output).await?,
                ReportAction::Close {
                    id,
                    delete_message,
                    ban_sender,
                } => {
                    let measures = report::Measures {
                        deletes_message: delete_message,
                        bans_sender: ban_sender,
                    };
                    report::close(&config, id, measures, &mut output).await?;
                }
            },
            Command::User { server, action } => {
                let (config, place) = (&config, &reach::Place { server });
                let done = match action {
                    UserAction::Add {
                        username,
                        fullname,
                        password,
                    } => {
                        let password = password.then(user::read_password).transpose()?;
                        user::add(config, place, &username, fullname, password).await?
                    }
                    UserAction::List => {
                        user::list(config, place, &mut output).await?;
                        return Ok(true);
                    }
                    UserAction::Password { username } => {
                        let password = user::read_password()?;
                        user::set_password(config, place, &username, password).await?
                    }
                    UserAction::Ban { username } => user::ban(config, place, &username).await?,
                    UserAction::Unban { username } => user::unban(config, place, &username).await?,
                    UserAction::Delete { username } => {
                        user::delete(config, place, &username).await?
                    }
                };
                writeln!(output, "{done}")?;
            }
            Command::Key { action } => match action {
                KeyAction::Create { name, scope } => {
                    let scopes = match scope.is_empty() {
                        true => Scope::ALL.to_vec(),
                        false => scope,
                    };
                    key::create(&config, &name, scopes, &mut output).await?;
                }
                KeyAction::List => key::list(&config, &mut output).await?,
                KeyAction::Revoke { name } => key::revoke(&config, &name, &mut output).await?,
            },
            Command::Reindex => {
                writeln!(output, "{}", reindex::reindex(&config).await?)?;
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
    // Somebody tries it out: an operator has set a secret.
    let is_first_start = config.jwt_secret == DEMO_JWT_SECRET && config.database.is_new_file();
    // Before anything else: a signal during the start then stops the program in good order too.
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
    let (version, address, database) = (&*VERSION, server.address()?, &config.database);
    tracing::info!(target: TARGET, "chatapp {version} listens on http://{address}, database {database}");
    if let Some(address) = server.metrics_address() {
        tracing::info!(target: TARGET, "metrics on http://{address}/metrics");
    }
    if is_first_start {
        match config.has_page {
            true => {
                tracing::info!(target: TARGET, "next: open http://{address} in two windows, and register a person in each")
            }
            false => {
                tracing::info!(target: TARGET, "next: register two people, see README.md, \"Without the page\"")
            }
        }
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        stopper.stop();
    });
    // A service manager may be waiting for this. There need not be one.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    server.run().await
}

/// Every socket is a file descriptor, and shells allow 1,024 of them by default.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(target: TARGET, %error, "the limit of open files stays as it is");
    }
}
