//! `serve`: opens the database, listens, takes up the runs that are not over, and ends in good order.

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vetting_judge::profile::{ProfileError, Registry};
use vetting_protocol::agent_api::AfterRun;
use vetting_protocol::ids::Sha256Hex;

use crate::accounts::{Accounts, SessionLimits};
use crate::clock::Clock;
use crate::config::{Config, EnrolmentNetboot, PowerBudget};
use crate::durable_file;
use crate::http::listener::{Counted, listen};
use crate::http::{App, AppParts, enrolment_limit, http_routes, https_routes, web};
use crate::metrics::Listener;
use crate::netboot::counters::Counters;
use crate::netboot::interface::InterfaceError;
use crate::netboot::server::NetbootServer;
use crate::network_test::NetworkTest;
use crate::notify::{DeliveryError, Notifier};
use crate::open_files;
use crate::power::secrets::PowerSecrets;
use crate::power::{Means, Power, WakeOnLan};
use crate::privileges::{self, PrivilegeError};
use crate::readiness::Readiness;
use crate::run::budget::Budget;
use crate::run::deadline::Limits;
use crate::run::driver::{Driver, EnrolmentSettings, Settings};
use crate::run::error::RunError;
use crate::run::janitor::Retention;
use crate::serial_console::IpmiSecrets;
use crate::service_manager;
use crate::signing::{SigningError, SigningKey};
use crate::state_lock::{LockError, StateLock};
use crate::storage_check::{self, StorageError};
use crate::store::{Store, StoreError, StoreOptions};
use crate::tls::{self, TlsError};

/// Why the coordinator does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// Another coordinator has the state folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The disk or the database is not fit to be written to.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Keys and certificates.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The key of reports.
    #[error("reports cannot be signed")]
    Signing(#[from] SigningError),
    /// A profile of the config.
    #[error("a profile cannot be used")]
    Profile(#[from] ProfileError),
    /// Who is told what happened.
    #[error("nobody can be notified")]
    Notify(#[from] DeliveryError),
    /// A run that was under way.
    #[error("the runs under way cannot be taken up")]
    Resume(#[from] RunError),
    /// `coordinator.json`.
    #[error("the addresses cannot be announced")]
    Announce(#[from] durable_file::WriteError),
    /// A file or folder.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An address.
    #[error("cannot listen on {address}; is another coordinator running, or the address not this box's?")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Root could not be given up.
    #[error("the ports are open, but root cannot be given up")]
    Privileges(#[from] PrivilegeError),
    /// The netboot server.
    #[error("the netboot server cannot be started")]
    Netboot(#[from] InterfaceError),
    /// The operating system.
    #[error("cannot wait for signals")]
    Signal {
        /// Why.
        source: std::io::Error,
    },
}

/// What a server is made of besides its config; tests bring their own.
pub struct Surroundings {
    /// The one clock.
    pub clock: Clock,
    /// What switches machines on.
    pub power: Arc<dyn Power>,
    /// How the database is opened; its clock is replaced by the one above.
    pub store: StoreOptions,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { clock: Clock::system(), power: Arc::new(WakeOnLan), store: StoreOptions::default() }
    }
}

/// A coordinator that serves.
pub struct Server {
    /// Where the agent and operator API is.
    pub https: SocketAddr,
    /// Where the boot endpoints are.
    pub http: SocketAddr,
    /// SHA-256 of the authority's certificate.
    pub ca_fingerprint: Sha256Hex,
    /// Runs.
    pub driver: Driver,
    netboot_counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    lock: StateLock,
}

/// Serves until SIGTERM or Ctrl-C, then lets what is under way finish.
///
/// # Errors
/// Everything that keeps it from starting.
pub async fn run(config: Config) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|source| ServeError::Signal { source })?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|source| ServeError::Signal { source })?;
    open_files::raise_limit();
    let server = start(&config, Surroundings::default()).await?;
    announce(&server);
    service_manager::ready(&format!("https {}, http {}", server.https, server.http));
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
    service_manager::stopping();
    server.stop().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the one line that scripts wait for")]
fn announce(server: &Server) {
    println!("listening https={} http={}", server.https, server.http);
}

/// Opens everything and serves in the background.
///
/// # Errors
/// Everything that keeps it from starting.
pub async fn start(config: &Config, surroundings: Surroundings) -> Result<Server, ServeError> {
    let Surroundings { clock, power, store } = surroundings;
    let (agents_listener, https) = bind(config.listen.https).await?;
    let (boot_listener, http) = bind(config.listen.http).await?;
    let netboot = NetbootServer::open(&config.netboot, &config.image.dir, http)?;
    // before any file is made: they are this user's
    if let Some(user) = &config.run_as {
        privileges::become_user(user)?;
        netboot.check_transfers()?;
    }
    let artifacts_dir = make_folders(config)?;
    let lock = StateLock::take(&config.state_dir)?;
    let checked = config.clone();
    let looked = tokio::task::spawn_blocking(move || storage_check::at_start(&checked));
    looked.await.map_err(RunError::from)??;
    let options = StoreOptions { clock: clock.clone(), ..store };
    let path = config.database.path.clone();
    let opened = tokio::task::spawn_blocking(move || Store::open_with(path, options));
    let store = opened.await.map_err(RunError::from)??;
    for name in store.applied_migrations() {
        tracing::info!(name, "migration applied");
    }
    let tls = tls::prepare(&config.state_dir)?;
    // each report loads it anew; here it is made, and a broken one is told before a run needs it
    SigningKey::load_or_make(&config.signing_dir())?;
    let driver = Driver::new(store, clock.clone(), power, profiles(config)?, settings(config, artifacts_dir));
    let secrets = PowerSecrets { file: config.power.secrets.clone() };
    let notifier = Notifier::new(driver.store.clone(), clock.clone(), secrets, config.notifications.clone())?;
    let (stop, stopped) = watch::channel(false);
    let app = App::new(AppParts {
        driver: driver.clone(),
        ca_fingerprint: tls.fingerprint,
        image_dir: config.image.dir.clone(),
        extra_kernel_args: config.boot.kernel_args.clone(),
        public_host: config.public_address.clone(),
        https_port: https.port(),
        enrolment_limit: enrolment_limit(),
        netboot: netboot.status(),
        notifier: notifier.clone(),
        metrics_allow: config.metrics.allow.clone(),
        readiness: Readiness::new(driver.clone(), stopped.clone()),
        network_test: Arc::new(NetworkTest::new(&config.network_test, https.ip())),
        accounts: Accounts::new(driver.store.clone(), clock.clone(), session_limits(config)),
        web: web::Parts::new(config),
        stopped: stopped.clone(),
    });
    let netboot_counters = netboot.counters();
    notifier.begin().await?;
    driver.sweep_uploads().await?;
    driver.resume().await?;
    let mut tasks = netboot.serve(&driver, &clock, &stopped);
    tasks.extend(notifier.serve(&stopped));
    tasks.extend(service_manager::keep_watchdog_quiet(&driver.store, &stopped));
    let counted = |listener| Counted { listener, metrics: driver.metrics.clone() };
    tasks.extend([
        tokio::spawn(listen(
            agents_listener,
            Some(tls.config),
            https_routes(&app),
            counted(Listener::Https),
            stopped.clone(),
        )),
        tokio::spawn(listen(
            boot_listener,
            None,
            http_routes(&app),
            counted(Listener::Http),
            stopped.clone(),
        )),
        tokio::spawn({
            let (driver, stopped) = (driver.clone(), stopped.clone());
            async move { driver.keep_house(stopped).await }
        }),
        tokio::spawn({
            let driver = driver.clone();
            async move { driver.watch_deadlines(stopped).await }
        }),
    ]);
    let announcement = json!({"https": https, "http": http, "ca_fingerprint": tls.fingerprint});
    durable_file::write(&config.announcement_path(), 0o644, announcement.to_string().as_bytes())?;
    Ok(Server { https, http, ca_fingerprint: tls.fingerprint, driver, netboot_counters, stop, tasks, lock })
}

impl Server {
    /// Takes no more requests, lets those under way finish, and closes the database.
    pub fn stop(self) -> impl Future<Output = ()> {
        let Self { stop, tasks, driver, netboot_counters, lock, .. } = self;
        async move {
            let _ = stop.send(true);
            driver.hang_up();
            for task in tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a task died");
                }
            }
            let packets = netboot_counters.summary();
            if !packets.is_empty() {
                tracing::info!(packets, "netboot");
            }
            // the last handle waits for the writer; that may take as long as the disk
            let _ = tokio::task::spawn_blocking(move || drop(driver)).await;
            drop(lock);
        }
    }
}

/// The folders there must be; returns that of the runs' files, absolute as the database wants its paths.
fn make_folders(config: &Config) -> Result<PathBuf, ServeError> {
    let artifacts = config.artifacts_dir();
    let failed = |source| ServeError::File { path: artifacts.clone(), source };
    std::fs::create_dir_all(&artifacts).map_err(failed)?;
    artifacts.canonicalize().map_err(failed)
}

/// The profiles of a configuration.
///
/// # Errors
/// A file that cannot be read, or is no profile.
pub fn profiles(config: &Config) -> Result<Registry, ServeError> {
    let mut registry = Registry::builtin()?;
    for (name, path) in &config.profiles {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ServeError::File { path: path.clone(), source })?;
        registry = registry.with_replacement(*name, &text, &path.to_string_lossy())?;
    }
    Ok(registry)
}

fn settings(config: &Config, artifacts_dir: PathBuf) -> Settings {
    let (after_fail, hold) = config.after_fail();
    Settings {
        limits: Limits {
            wake_ms: ms(config.timeouts.wake),
            boot_ms: ms(config.timeouts.boot),
            silence_ms: ms(config.timeouts.silence),
            reboot_ms: ms(config.timeouts.reboot),
            hold_ms: ms(config.hold.limit),
        },
        claim_valid_ms: ms(config.claim.lifetime),
        hold_failed: hold.is_some(),
        hold_warning_ms: ms(config.hold.warning),
        after_pass: config.after_run.pass,
        after_fail: match after_fail {
            // held machines stay; this is for those that are not held
            AfterRun::Stay => AfterRun::PowerOff,
            then @ (AfterRun::PowerOff | AfterRun::Reboot) => then,
        },
        retention: Retention {
            artifacts_days: config.artifacts.retention_days.map(NonZeroU32::get),
            logs_days: config.logs.retention_days.map(NonZeroU32::get),
            free_space: config.free_space.clone(),
            folders: vec![
                artifacts_dir.clone(),
                config
                    .database
                    .path
                    .parent()
                    .filter(|folder| folder.is_dir())
                    .unwrap_or(&artifacts_dir)
                    .to_owned(),
            ],
        },
        artifacts_dir,
        signing_dir: config.signing_dir(),
        means: Means {
            secrets: PowerSecrets { file: config.power.secrets.clone() },
            hooks: config.power.hooks.clone(),
            off_pause: Duration::from_millis(config.power.off_pause.as_ms()),
            shutdown_wait: Duration::from_millis(config.power.shutdown_wait.as_ms()),
        },
        enrolment: EnrolmentSettings {
            unknown_may_netboot: config.enrolment.netboot == EnrolmentNetboot::Allowed,
            code_valid_ms: ms(config.enrolment.code_lifetime),
            ignored_uuids: config.enrolment.ignored_uuids.clone(),
        },
        ipmi: IpmiSecrets::from_environment(),
        sensor_metrics: config.metrics.sensors,
        budget: budget(&config.power.budget),
        boot_spacing_ms: ms(config.power.budget.boot_spacing),
    }
}

fn session_limits(config: &Config) -> SessionLimits {
    SessionLimits { lifetime_ms: ms(config.web.session_lifetime), idle_ms: ms(config.web.session_idle) }
}

fn ms(duration: vetting_judge::duration::HumanDuration) -> i64 {
    i64::try_from(duration.as_ms()).unwrap_or(i64::MAX)
}

/// Without a limit there is nothing to wait for.
fn budget(config: &PowerBudget) -> Option<Budget> {
    let machines = config.machines.map(NonZeroU32::get);
    let watts = config.watts.map(|watts| f64::from(watts.get()));
    (machines.is_some() || watts.is_some()).then(|| Budget {
        machines,
        watts,
        assumed_watts: f64::from(config.assumed_watts.get()),
        stages: config.stages.clone(),
    })
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
