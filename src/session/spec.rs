//! Sessions made from one mould: a platform with this program's defaults, hooks and limiter, from which any number
//! of sessions are started.
//!
//! Apart from [`Session::start`], which takes each of them once, because a program has few kinds of sessions and
//! may have many of each.
//!
//! Invariants: what a session is given by its own call lies over the spec's preset, which lies over the
//! platform's defaults.

use std::fmt;
use std::sync::Arc;

use mainstay_supervisors::ChildSpec;

use super::Session;
use super::gate::Gate;
use super::limiter::Limiter;
use super::start::Extras;
use crate::config::{Config, ConfigBuilder, Profile, Settings};
use crate::error::{ConfigErrors, StartError};
use crate::hooks::Hooks;
use crate::platform::Platform;

/// A mould for sessions: "our Deribit client". Cheap to clone.
///
/// ```no_run
/// use mainstay::adapters::deribit::{self, Deribit};
/// use mainstay::config::{Profile, Settings};
/// use mainstay::hooks::{AuthHook, Hooks};
/// use mainstay::{Epoch, SessionSpec};
/// use std::time::Duration;
///
/// struct Pager;
///
/// impl AuthHook for Pager {
///     fn on_refused(&self, _: Epoch, detail: &str) {
///         eprintln!("the venue refuses us: {detail}");
///     }
/// }
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let ours = SessionSpec::new(Deribit::new)
///     .profile(Profile::Financial)
///     .preset(Settings { request_timeout: Some(Duration::from_secs(3)), ..Settings::default() })
///     .hooks(Hooks::new().auth(Pager));
/// let session = ours.start(Settings { url: Some(deribit::TEST_URL.into()), ..Settings::default() }).await?;
/// # drop(session);
/// # Ok(())
/// # }
/// ```
pub struct SessionSpec<P> {
    make: Arc<dyn Fn() -> P + Send + Sync>,
    preset: ConfigBuilder,
    hooks: Hooks,
    limiter: Option<Limiter>,
    gate: Option<Gate>,
}

impl<P> Clone for SessionSpec<P> {
    fn clone(&self) -> Self {
        Self {
            make: Arc::clone(&self.make),
            preset: self.preset.clone(),
            hooks: self.hooks.clone(),
            limiter: self.limiter.clone(),
            gate: self.gate.clone(),
        }
    }
}

impl<P> fmt::Debug for SessionSpec<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSpec")
            .field("hooks", &self.hooks)
            .field("limiter", &self.limiter.is_some())
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl<P: Platform> SessionSpec<P> {
    /// Sessions each with a platform of its own, made by `make`.
    pub fn new(make: impl Fn() -> P + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(make),
            preset: ConfigBuilder::default(),
            hooks: Hooks::new(),
            limiter: None,
            gate: None,
        }
    }

    /// What all of them are told unless their own settings say otherwise. A later call lies over an earlier one,
    /// and over a profile named before it.
    #[must_use]
    pub fn preset(mut self, settings: Settings) -> Self {
        self.preset = self.preset.preset(settings);
        self
    }

    /// [`SessionSpec::preset`] with the values of a profile.
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        self.preset(profile.settings())
    }

    /// What is hung into each of them, in place of what was before. The sessions share the hooks and not their
    /// statistics.
    #[must_use]
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// The limiter that all of them share, in place of one for each.
    #[must_use]
    pub fn limiter(mut self, limiter: &Limiter) -> Self {
        self.limiter = Some(limiter.clone());
        self
    }

    /// The gate that the attempts of all of them pass.
    #[must_use]
    pub fn gate(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// The configuration that a session with these settings gets, but for the platform's own defaults, which come
    /// beneath at its start.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with everything that is wrong.
    pub fn config(&self, user: Settings) -> Result<Config, ConfigErrors> {
        self.preset.clone().settings(user).build()
    }

    /// Starts a session, as [`Session::start`] does.
    ///
    /// # Errors
    ///
    /// As [`Session::start`]; [`StartError::Config`] if the settings do not fit together.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what has been started.
    pub async fn start(&self, user: Settings) -> Result<Session, StartError> {
        self.start_with(self.config(user)?).await
    }

    /// Starts a session with a whole configuration, in which the spec's preset has no part: for what
    /// [`Settings`] cannot say, such as [`collectors`](ConfigBuilder::collector).
    ///
    /// # Errors
    ///
    /// As [`Session::start`], cancel safety included.
    pub async fn start_with(&self, config: Config) -> Result<Session, StartError> {
        Session::start_with(self.platform(), config, self.extras()).await
    }

    /// A session for a tree of the user's own, as [`Session::supervised`] makes one.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] if the settings do not fit together.
    pub fn supervised(
        &self,
        id: &str,
        user: Settings,
    ) -> Result<(Session, ChildSpec), ConfigErrors> {
        let config = self.config(user)?;
        Ok(Session::supervised_with(
            id,
            self.platform(),
            config,
            self.extras(),
        ))
    }

    /// A platform of a session's own.
    pub(crate) fn platform(&self) -> P {
        (self.make)()
    }

    pub(crate) fn extras(&self) -> Extras {
        Extras {
            limiter: self.limiter.clone(),
            gate: self.gate.clone(),
            hooks: self.hooks.clone(),
            ..Extras::default()
        }
    }
}
