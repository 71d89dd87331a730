//! `usb …`: a stick that leads machines to this coordinator, or that works alone.
//!
//! Secrets come from files, never from the command line, where every user of the box could read them.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use vetting_judge::yaml::{self, Mistake};
use vetting_protocol::endpoint::{CaPin, Endpoint, EndpointError};
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::secret::Secret;
use vetting_protocol::stick::network::Network;
use vetting_protocol::stick::{Mode, Start, StickCoordinator, StickSettings};

use super::authority::Authority;
use super::progress::Progress;
use super::usb_enrol::{FreshToken, WithEnrol};
use super::{ClientError, CommandError, Remote, output};
use crate::config::{self, Config};
use crate::durable_file;
use crate::usb::block_device::{self, Disk, Fixed, Refusal, Size};
use crate::usb::image::{self, ImageError};
use crate::usb::settings::{self, SettingsError};
use crate::usb::write::{self, Phase, WriteError};

/// Why there is no stick.
#[derive(Debug, thiserror::Error)]
pub enum UsbError {
    /// The built image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The disk.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Writing it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The settings file.
    #[error("{}: {mistake}", path.display())]
    SettingsFile {
        /// The file.
        path: PathBuf,
        /// What and where.
        mistake: Mistake,
    },
    /// `--network`.
    #[error("--network: {mistake}")]
    Network {
        /// What and where.
        mistake: Mistake,
    },
    /// Machines would not know where to go.
    #[error(
        "at which address do machines reach the coordinator? Say --coordinator HOST:PORT, or `public_address` in the configuration; --offline makes a stick that needs none"
    )]
    NoAddress,
    /// The coordinator's box has it, and this is another.
    #[error(
        "which image goes onto the stick? Copy vetting-usb.img of the coordinator's image folder here, and say --image FILE"
    )]
    NoImage,
    /// `public_address` is no address.
    #[error("the configuration's `public_address` cannot be used; --coordinator HOST:PORT names another one")]
    Address(#[from] EndpointError),
    /// The certificate of the authority.
    #[error("{} holds no certificate; the first `vetting-coordinator serve` makes it", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ClientError,
    },
    /// There is a file already.
    #[error("{} is there already; --force replaces it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// `--enrol` for machines that go to another coordinator.
    #[error(
        "the settings lead to {stick}, whose authority is not the one of this coordinator: a token of here means nothing there. \
         Make one there, and name it with --enrolment-token-file"
    )]
    ElsewhereEnrolled {
        /// Where machines go.
        stick: Endpoint,
    },
    /// `--enrol` for machines that go nowhere.
    #[error(
        "a stick of `mode: offline` leads to no coordinator, so --enrol has nobody to register its machines with"
    )]
    NobodyEnrols,
    /// A token's terms, and no token.
    #[error(
        "--uses, --valid, --name, --spec and --start-run say what the token of --enrol allows: add --enrol, or leave them out"
    )]
    TermsWithoutEnrol,
    /// The image cannot be written to a file.
    #[error(transparent)]
    File(#[from] durable_file::WriteError),
    /// Nobody said yes.
    #[error("nothing was written: `{name}` was not confirmed (type the name, or say --yes {name})")]
    NotConfirmed {
        /// The disk.
        name: String,
    },
}

/// A stick that starts machines.
#[derive(Debug, Subcommand)]
pub enum UsbCommand {
    /// Make an image with the settings put in, to be written to sticks by any program, or given to a BMC.
    #[command(after_help = "Examples:\n  vetting-coordinator usb image rack3.img\n  \
                            vetting-coordinator usb image alone.img --offline --profile deep --wipe --start auto\n  \
                            vetting-coordinator usb image vlan.img --network '{interface: eno1, vlan: 42}'\n  \
                            vetting-coordinator usb image rack3.img --enrol --uses 12 --spec r640.yaml --start-run")]
    Image(ImageArguments),
    /// Write a stick in this box. Everything on it is lost; its model, serial number and size are shown first.
    #[command(after_help = "Examples:\n  vetting-coordinator usb write --device /dev/sdb\n  \
                            vetting-coordinator usb write --device /dev/disk/by-id/usb-… --settings vetting.yaml --yes sdb\n  \
                            vetting-coordinator usb write --device /dev/sdb --enrol --uses 12 --spec r640.yaml --start-run\n\n\
                            Needs root. If it is stopped half way (Ctrl-C), the stick is empty; start again.")]
    Write(WriteArguments),
}

/// `usb image`.
#[derive(Debug, Args)]
pub struct ImageArguments {
    /// The file to make.
    file: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    what: What,
}

/// `usb write`.
#[derive(Debug, Args)]
pub struct WriteArguments {
    /// The disk: /dev/sdX, or a link to it below /dev/disk.
    #[arg(long)]
    device: PathBuf,
    /// Do not ask; NAME is the disk's name, such as sdb.
    #[arg(long, value_name = "NAME")]
    yes: Option<String>,
    /// Also take a disk that is neither removable nor on USB.
    #[arg(long)]
    force_fixed: bool,
    #[command(flatten)]
    what: What,
}

/// What goes onto the stick.
#[derive(Debug, Args)]
struct What {
    /// The built image [default: vetting-usb.img in the configuration's image folder].
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Settings to start from: a file in the form of the stick's vetting.yaml.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Where machines reach the coordinator [default: `public_address` of the configuration, or --url].
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "offline")]
    coordinator: Option<Endpoint>,
    /// Machines work alone; no coordinator goes onto the stick.
    #[arg(long)]
    offline: bool,
    /// File with an enrolment token: machines that nobody registered are registered by it.
    #[arg(long, value_name = "FILE", conflicts_with = "offline")]
    enrolment_token_file: Option<PathBuf>,
    /// Profile of a machine that works alone, and of the runs that --start-run starts: quick, deep or soak.
    #[arg(long)]
    profile: Option<ProfileName>,
    /// Consent, for a machine that works alone: every disk but the stick may be overwritten.
    #[arg(long)]
    wipe: bool,
    /// What starts a machine that works alone: ask (a person at its console) or auto (a countdown).
    #[arg(long)]
    start: Option<Start>,
    /// The network, as below `network:` in vetting.yaml.
    #[arg(long, value_name = "YAML")]
    network: Option<String>,
    #[command(flatten, next_help_heading = "Registering machines")]
    enrol: WithEnrol,
}

/// The answer of both commands.
#[derive(Debug, Serialize)]
struct Made<'a> {
    /// File or device.
    path: &'a Path,
    bytes: usize,
    sha256: Sha256Hex,
    model: Option<&'a str>,
    serial: Option<&'a str>,
    /// The token that `--enrol` made; its text is on the stick alone.
    enrolment_token_id: Option<i64>,
}

/// What the commands know of this box.
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a Path,
    pub(super) remote: &'a Remote,
    pub(super) json: bool,
}

impl UsbCommand {
    pub(super) async fn run(&self, around: &Surroundings<'_>) -> Result<(), CommandError> {
        match self {
            Self::Image(image) => image.run(around).await,
            Self::Write(write) => write.run(around).await,
        }
    }
}

impl ImageArguments {
    async fn run(&self, around: &Surroundings<'_>) -> Result<(), CommandError> {
        if self.file.exists() && !self.force {
            return Err(UsbError::Exists { path: self.file.clone() }.into());
        }
        let mut settings = self.what.settings(around)?;
        let mut image = self.what.image(around, &settings)?;
        let token = self.what.enrol(around, &mut settings).await?;
        let made = put(&mut image, &settings).and_then(|()| {
            // a token, or a proxy's password, is nobody else's business
            Ok(durable_file::write(&self.file, 0o600, &image)?)
        });
        let token = FreshToken::settle(token, made.map_err(CommandError::from)).await?;
        let made = Made {
            path: &self.file,
            bytes: image.len(),
            sha256: Sha256Hex::of(&image),
            model: None,
            serial: None,
            enrolment_token_id: token,
        };
        made.tell(&settings, around.json)
    }
}

impl WriteArguments {
    async fn run(&self, around: &Surroundings<'_>) -> Result<(), CommandError> {
        let mut settings = self.what.settings(around)?;
        let mut image = self.what.image(around, &settings)?;
        let fixed = if self.force_fixed { Fixed::Allow } else { Fixed::Refuse };
        let bytes = image.len();
        let look = || block_device::examine(Path::new("/"), &self.device, bytes as u64, fixed);
        let disk = look().map_err(UsbError::from)?;
        self.confirm(&disk)?;
        // time has passed at the question
        if look().map_err(UsbError::from)? != disk {
            return Err(UsbError::from(WriteError::Replaced { path: self.device.clone() }).into());
        }
        let token = self.what.enrol(around, &mut settings).await?;
        let mut progress = Progress::new();
        let made = put(&mut image, &settings).and_then(|()| {
            Ok(write::write(&disk, &image, &mut |phase, done_bytes| {
                let what = match phase {
                    Phase::Writing => "writing",
                    Phase::Comparing => "reading back",
                };
                progress.show(what, done_bytes as u64, bytes as u64);
            })?)
        });
        let token = FreshToken::settle(token, made.map_err(CommandError::from)).await?;
        let made = Made {
            path: &self.device,
            bytes,
            sha256: Sha256Hex::of(&image),
            model: disk.model.as_deref(),
            serial: disk.serial.as_deref(),
            enrolment_token_id: token,
        };
        made.tell(&settings, around.json)
    }

    /// The operator names the disk, after its description.
    fn confirm(&self, disk: &Disk) -> Result<(), CommandError> {
        let unknown = "unknown";
        let kind = if disk.usb { "on USB" } else { "NOT on USB" };
        eprintln!(
            "/dev/{}: {}, serial number {}, {}, {kind}; partitions: {}",
            disk.name,
            disk.model.as_deref().unwrap_or(unknown),
            disk.serial.as_deref().unwrap_or(unknown),
            Size(disk.size_bytes),
            if disk.partitions.is_empty() { "none".to_owned() } else { disk.partitions.join(", ") },
        );
        let said = if let Some(said) = &self.yes {
            said.clone()
        } else {
            eprint!("EVERYTHING on it will be lost. Type {} to go on: ", disk.name);
            std::io::stderr().flush()?;
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            line.trim().to_owned()
        };
        if said == disk.name {
            Ok(())
        } else {
            Err(UsbError::NotConfirmed { name: disk.name.clone() }.into())
        }
    }
}

impl What {
    /// The image with the settings in it.
    fn image(&self, around: &Surroundings<'_>, settings: &StickSettings) -> Result<Vec<u8>, CommandError> {
        let path = match &self.image {
            Some(path) => path.clone(),
            None if !around.config.exists() && around.remote.elsewhere(around.config)?.is_some() => {
                return Err(UsbError::NoImage.into());
            }
            None => Config::load(around.config)?.image.dir.join(image::FILE),
        };
        let mut image = image::read(&path).map_err(UsbError::from)?;
        put(&mut image, settings)?;
        Ok(image)
    }

    /// With `--enrol`: a token, made and put into the settings. Last of all, when nothing else is left to refuse.
    async fn enrol(
        &self,
        around: &Surroundings<'_>,
        settings: &mut StickSettings,
    ) -> Result<Option<FreshToken>, CommandError> {
        if !self.enrol.asked {
            return Ok(None);
        }
        let coordinator = settings.coordinator.as_mut().ok_or(UsbError::NobodyEnrols)?;
        let profile = self.profile.unwrap_or(ProfileName::Quick);
        let (token, text) = FreshToken::make(around, &self.enrol.terms, profile).await?;
        coordinator.enrolment_token = Some(text);
        Ok(Some(token))
    }

    fn settings(&self, around: &Surroundings<'_>) -> Result<StickSettings, CommandError> {
        let mut settings = match &self.settings {
            Some(path) => vetting_judge::stick::read(&read(path)?)
                .map_err(|mistake| UsbError::SettingsFile { path: path.clone(), mistake })?,
            None => StickSettings {
                mode: Mode::Auto,
                coordinator: None,
                profile: None,
                wipe: false,
                start: Start::Ask,
                network: Network::default(),
                proxy: None,
            },
        };
        settings.profile = self.profile.or(settings.profile);
        settings.wipe |= self.wipe;
        settings.start = self.start.unwrap_or(settings.start);
        if let Some(text) = &self.network {
            settings.network =
                yaml::parse(text, "it should say something such as `{interface: eno1, vlan: 42}`")
                    .map_err(|mistake| UsbError::Network { mistake })?;
        }
        if self.offline {
            (settings.mode, settings.coordinator, settings.proxy) = (Mode::Offline, None, None);
        } else if settings.mode == Mode::Auto {
            let named = settings.coordinator.take().filter(|_| self.coordinator.is_none());
            let mut coordinator = named.map_or_else(|| self.coordinator(around), Ok)?;
            if let Some(path) = &self.enrolment_token_file {
                coordinator.enrolment_token = Some(Secret::new(read(path)?.trim().to_owned()));
            }
            settings.coordinator = Some(coordinator);
        }
        self.check_enrol(around, &settings)?;
        Ok(settings)
    }

    /// Refuses a token that nobody would take.
    fn check_enrol(&self, around: &Surroundings<'_>, settings: &StickSettings) -> Result<(), CommandError> {
        match &settings.coordinator {
            _ if !self.enrol.asked => {
                let useless = self.enrol.terms.are_said();
                if useless { Err(UsbError::TermsWithoutEnrol.into()) } else { Ok(()) }
            }
            None => Err(UsbError::NobodyEnrols.into()),
            Some(coordinator) if coordinator.ca != authority(around)? => {
                Err(UsbError::ElsewhereEnrolled { stick: coordinator.url.clone() }.into())
            }
            Some(_) => Ok(()),
        }
    }

    /// The coordinator of this box's configuration, or the one that the global options name.
    fn coordinator(&self, around: &Surroundings<'_>) -> Result<StickCoordinator, CommandError> {
        let said = self.coordinator.clone();
        let url = if let Some(elsewhere) = around.remote.elsewhere(around.config)? {
            said.map_or_else(|| elsewhere.url.parse(), Ok).map_err(UsbError::from)?
        } else {
            let config = Config::load(around.config)?;
            let configured = || {
                let host = config.public_address.as_deref().ok_or(UsbError::NoAddress)?;
                Ok::<_, UsbError>(config::with_port(host, config.listen.https.port()).parse()?)
            };
            said.map_or_else(configured, Ok)?
        };
        Ok(StickCoordinator { url, ca: authority(around)?, enrolment_token: None })
    }
}

/// The authority of the coordinator that the global options name, or else of this box's configuration.
fn authority(around: &Surroundings<'_>) -> Result<CaPin, CommandError> {
    if let Some(elsewhere) = around.remote.elsewhere(around.config)? {
        return Ok(elsewhere.authority.pin()?);
    }
    let path = Config::load(around.config)?.tls_dir().join("ca.pem");
    Authority::Certificate(path.clone()).pin().map_err(|source| UsbError::Authority { path, source }.into())
}

/// The settings, put into an image.
fn put(image: &mut [u8], settings: &StickSettings) -> Result<(), UsbError> {
    Ok(image::put_settings(image, &settings::text(settings)?)?)
}

impl Made<'_> {
    fn tell(&self, settings: &StickSettings, json: bool) -> Result<(), CommandError> {
        if json {
            return Ok(output::json(self)?);
        }
        let leads = match &settings.coordinator {
            Some(coordinator) if coordinator.enrolment_token.is_some() => {
                format!(
                    "leads to {} and HOLDS AN ENROLMENT TOKEN: who has it can register machines",
                    coordinator.url
                )
            }
            Some(coordinator) => format!("leads to {}", coordinator.url),
            None => "works without a coordinator".to_owned(),
        };
        let token = self.enrolment_token_id.map_or_else(String::new, |id| {
            format!("; `vetting-coordinator enrolment revoke {id}` makes the token useless")
        });
        let consent = if settings.wipe { "; a machine that works alone OVERWRITES its disks" } else { "" };
        Ok(output::line(&format!(
            "{}: {} written; it {leads}{token}{consent}",
            self.path.display(),
            Size(self.bytes as u64)
        ))?)
    }
}

fn read(path: &Path) -> Result<String, CommandError> {
    std::fs::read_to_string(path).map_err(|source| CommandError::File { path: path.to_owned(), source })
}
