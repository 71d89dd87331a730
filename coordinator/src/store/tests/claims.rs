//! Sessions and the boot timeline.

use std::net::{IpAddr, Ipv4Addr};

use vetting_protocol::ids::{RunId, Sha256Hex};

use super::{NOW_MS, host_and_run, on_a_database};
use crate::store::sessions::{self, ClaimOutcome, SequenceStep, TimelineEntry};
use crate::store::{StoreError, runs};

/// Whence an agent speaks.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn claim_of(run_id: RunId, secret: &[u8], token: &[u8], now_ms: i64) -> sessions::Claim {
    sessions::Claim {
        run_id,
        secret_hash: Sha256Hex::of(secret),
        token_hash: Sha256Hex::of(token),
        boot_id: "boot-1".to_owned(),
        from: "192.0.2.7".to_owned(),
        now_ms,
    }
}

#[test]
fn a_claim_secret_works_once_and_not_for_long() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        sessions::offer_claim(db, run, Sha256Hex::of(b"old"), NOW_MS, NOW_MS + 100)?;
        let session = sessions::offer_claim(db, run, Sha256Hex::of(b"new"), NOW_MS, NOW_MS + 100)?;
        let claim = |secret: &[u8], now| sessions::claim(db, &claim_of(run, secret, b"token", now));
        assert_eq!(claim(b"old", NOW_MS)?, ClaimOutcome::Unknown);
        assert_eq!(claim(b"new", NOW_MS + 100)?, ClaimOutcome::Expired);
        let others = sessions::claim(db, &claim_of(RunId(run.0 + 1), b"new", b"token", NOW_MS))?;
        assert_eq!(others, ClaimOutcome::Unknown);
        assert_eq!(claim(b"new", NOW_MS + 99)?, ClaimOutcome::Claimed { session });
        let ClaimOutcome::AlreadyUsed { session: used } = claim(b"new", NOW_MS + 99)? else { panic!() };
        assert_eq!(
            (used.id, used.boot_id.as_str(), used.claimed_from.as_str()),
            (session, "boot-1", "192.0.2.7")
        );
        assert_eq!(runs::get(db, run)?.agent_token_hash, Some(Sha256Hex::of(b"token")));
        assert_eq!(sessions::by_token(db, Sha256Hex::of(b"token"))?.map(|s| s.id), Some(session));
        assert_eq!(sessions::by_token(db, Sha256Hex::of(b"other"))?, None);
        sessions::reissue_token(db, &used, Sha256Hex::of(b"again"))?;
        assert_eq!(sessions::by_token(db, Sha256Hex::of(b"token"))?, None);
        assert!(sessions::by_token(db, Sha256Hex::of(b"again"))?.is_some());
        Ok(())
    });
}

#[test]
fn the_session_after_a_reboot_supersedes_the_one_before() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        let mut claimed = Vec::new();
        for name in [b"a", b"b"] {
            sessions::offer_claim(db, run, Sha256Hex::of(name), NOW_MS, NOW_MS + 100)?;
            let outcome = sessions::claim(db, &claim_of(run, name, name, NOW_MS))?;
            let ClaimOutcome::Claimed { session } = outcome else { panic!("{outcome:?}") };
            claimed.push(session);
        }
        let superseded =
            |name| sessions::by_token(db, Sha256Hex::of(name)).map(|found| found.unwrap().superseded);
        assert!(superseded(b"a")?);
        assert!(!superseded(b"b")?);
        assert_eq!(sessions::latest_claimed(db, run)?.map(|session| session.id), claimed.last().copied());
        // an offer that nobody took supersedes nothing, and revoking it leaves the claimed ones
        sessions::offer_claim(db, run, Sha256Hex::of(b"c"), NOW_MS, NOW_MS + 100)?;
        assert!(!superseded(b"b")?);
        sessions::revoke_claim(db, run)?;
        assert_eq!(sessions::claim(db, &claim_of(run, b"c", b"c", NOW_MS))?, ClaimOutcome::Unknown);
        assert!(sessions::by_token(db, Sha256Hex::of(b"b"))?.is_some());
        Ok(())
    });
}

#[test]
fn batches_count_up_without_gaps() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        let session = sessions::offer_claim(db, run, Sha256Hex::of(b"s"), NOW_MS, NOW_MS + 1)?;
        let advance = |sequence| sessions::advance_sequence(db, session, sequence);
        assert_eq!(advance(2)?, SequenceStep::Gap { expected: 1 });
        assert_eq!(advance(1)?, SequenceStep::Applied);
        assert_eq!(advance(1)?, SequenceStep::Duplicate);
        assert_eq!(advance(0)?, SequenceStep::Duplicate);
        assert_eq!(advance(2)?, SequenceStep::Applied);
        assert_eq!(advance(u64::MAX)?, SequenceStep::Gap { expected: 3 });
        let nobody = sessions::SessionId(session.0 + 1);
        assert!(matches!(sessions::advance_sequence(db, nobody, 1), Err(StoreError::NotFound { .. })));
        Ok(())
    });
}

#[test]
fn each_timeline_entry_lands_in_its_own_place() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        for entry in [
            TimelineEntry::Woken(1),
            TimelineEntry::ScriptServed(2),
            TimelineEntry::ImageServed(3),
            TimelineEntry::Claimed(4),
            TimelineEntry::KernelToInit(5),
            TimelineEntry::KernelToNetwork(8),
            TimelineEntry::KernelToClaim(6),
            TimelineEntry::LastContact(99, ADDRESS),
            TimelineEntry::LastContact(7, ADDRESS),
        ] {
            sessions::note(db, run, entry)?;
        }
        assert_eq!(
            sessions::timeline(db, run)?,
            sessions::Timeline {
                woken_ms: Some(1),
                script_served_ms: Some(2),
                image_served_ms: Some(3),
                claimed_ms: Some(4),
                kernel_to_init_ms: Some(5),
                kernel_to_network_ms: Some(8),
                kernel_to_claim_ms: Some(6),
                last_contact_ms: Some(7),
                last_contact_ip: Some(ADDRESS),
                state_since_ms: Some(NOW_MS),
            }
        );
        assert_eq!(sessions::timeline(db, RunId(99))?, sessions::Timeline::default());
        Ok(())
    });
}
