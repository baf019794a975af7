//! A file from an address, by all that may be known of it and all that may go wrong.

use proptest::prelude::*;
use ra3_hub::{HubSettings, Remote, agent, checksum, fetch};

use crate::server::Server;
use crate::settings;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is known of a file and wherever connections break, it comes whole or not at all.
    #[test]
    fn any_file_is_fetched_whole_or_not_at_all(
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
        cuts in prop::collection::vec(0usize..5000, 0..3),
        n_there in 0usize..5000,
        ignores_ranges in any::<bool>(),
        knows_size in any::<bool>(),
        knows_sum in any::<bool>(),
        is_other in any::<bool>(),
    ) {
        let server = Server::start(&[("a.safetensors", &bytes)]);
        server.state.lock().unwrap().cuts = cuts;
        server.state.lock().unwrap().ignores_ranges = ignores_ranges;
        let folder = tempfile::tempdir().unwrap();
        let settings = HubSettings {
            n_attempts: 4,
            ..settings(&server, folder.path())
        };
        let path = folder.path().join("below/a");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, if is_other { "other" } else { "" }).unwrap();
        let other = checksum(&path).unwrap();
        // An attempt before left a part.
        let part = folder.path().join("below/a.incomplete");
        std::fs::write(&part, &bytes[..n_there.min(bytes.len())]).unwrap();
        let whole = folder.path().join("whole");
        std::fs::write(&whole, &bytes).unwrap();
        let right = checksum(&whole).unwrap();
        let wanted = if is_other { other } else { right };
        let is_refused = knows_sum && is_other && b"other" != bytes.as_slice();
        let remote = Remote {
            address: &format!("{}/storage/a.safetensors", server.endpoint()),
            token: None,
            n_bytes: knows_size.then_some(bytes.len() as u64),
            sha256: knows_sum.then_some(&wanted),
        };
        let mut last = None;
        let agent = agent(&settings).unwrap();
        let done = fetch(remote, &path, &agent, &settings, &mut |n| last = Some(n));
        prop_assert_eq!(done.is_err(), is_refused, "{:?}", done);
        let expected = if is_refused { b"other" } else { bytes.as_slice() };
        prop_assert_eq!(std::fs::read(&path).unwrap(), expected);
        prop_assert!(!part.exists());
        prop_assert!(is_refused || last.is_none_or(|n| n == bytes.len() as u64));
    }
}

#[test]
fn what_is_not_there_leaves_nothing() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&server, folder.path());
    for address in [server.endpoint(), "http://127.0.0.1:1".to_owned()] {
        let remote = Remote {
            address: &format!("{address}/storage/absent"),
            token: None,
            n_bytes: None,
            sha256: None,
        };
        let agent = agent(&settings).unwrap();
        let path = folder.path().join("absent");
        fetch(remote, &path, &agent, &settings, &mut |_| {}).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
