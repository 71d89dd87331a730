//! Passwords: argon2id with the parameters of the crate's defaults (19 MiB, two passes; OWASP's recommendation), a random
//! salt each, kept in their PHC form. Blocks for some hundredths of a second: not to be called from async code.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use vetting_protocol::secret::Secret;

/// Characters that a password has at least: there is one log-in page and no second factor.
pub const FEWEST_CHARACTERS: usize = 12;
/// Bytes that a password has at most.
const MOST_BYTES: usize = 1_024;

/// A password that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too short.
    #[error("a password has at least {FEWEST_CHARACTERS} characters; three or four random words are good")]
    TooShort,
    /// Too long.
    #[error("a password has at most {MOST_BYTES} bytes")]
    TooLong,
    /// The hash could not be made.
    #[error("the password cannot be hashed: {what}")]
    Hash {
        /// What argon2 says.
        what: String,
    },
}

/// What is stored of a new password.
///
/// # Errors
/// It is too short or too long.
pub fn hash(password: &Secret) -> Result<String, PasswordError> {
    let text = password.expose();
    if text.chars().count() < FEWEST_CHARACTERS {
        return Err(PasswordError::TooShort);
    }
    if text.len() > MOST_BYTES {
        return Err(PasswordError::TooLong);
    }
    let hashed = Argon2::default().hash_password(text.as_bytes());
    hashed.map(|hash| hash.to_string()).map_err(|error| PasswordError::Hash { what: error.to_string() })
}

/// Whether this is the password behind `stored`. What cannot be read is nobody's password. Without `stored` it takes as
/// long and says no: the time must not tell which names there are.
pub fn verify(password: &Secret, stored: Option<&str>) -> bool {
    if password.expose().len() > MOST_BYTES {
        return false;
    }
    let Some(stored) = stored else {
        let _ = Argon2::default().hash_password(password.expose().as_bytes());
        return false;
    };
    PasswordHash::new(stored)
        .is_ok_and(|hash| Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn only_the_same_password_is_accepted_and_the_hash_says_how_it_was_made() {
        let stored = hash(&secret("correct horse battery")).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(!stored.contains("horse"));
        assert!(verify(&secret("correct horse battery"), Some(&stored)));
        assert!(!verify(&secret("correct horse batterz"), Some(&stored)));
        assert!(!verify(&secret("correct horse battery"), None));
        assert!(!verify(&secret("correct horse battery"), Some("garbage")));
        assert!(!verify(&secret(""), Some("")));
    }

    #[test]
    fn a_password_has_a_least_and_a_most() {
        assert_eq!(hash(&secret("elevenchars")), Err(PasswordError::TooShort));
        assert_eq!(hash(&secret(&"x".repeat(MOST_BYTES + 1))), Err(PasswordError::TooLong));
    }
}
