//! The runner against real processes.

use std::path::Path;

use super::*;

const LONG: Duration = Duration::from_mins(10);

/// A real program; scripts are given to the interpreter as data of the test, the product never does that.
fn script(text: &str, timeout: Duration) -> Invocation {
    Invocation { tool: "bash", args: vec!["-c".into(), text.into()], timeout }
}

fn runner() -> SystemRunner {
    SystemRunner::with_grace(Duration::from_millis(200))
}

fn run(invocation: &Invocation) -> Result<Finished, ToolError> {
    runner().run(invocation, &Cancel::new(), &mut |_, _| {})
}

fn is_alive(pid: &str) -> bool {
    // a zombie that nobody has reaped yet is dead
    std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until a process is gone; the test's own limit ends it if it never is.
fn assert_dies(pid: &str) {
    assert!(!pid.is_empty());
    while is_alive(pid) {
        std::thread::yield_now();
    }
}

#[test]
fn output_exit_code_and_lines_are_told() {
    let mut lines = Vec::new();
    let finished = runner()
        .run(
            &script("printf 'a\\rb\\b\\bc\\n'; echo \"$LC_ALL\" >&2; cat; exit 7", LONG),
            &Cancel::new(),
            &mut |stream, line| lines.push((stream, line.to_owned())),
        )
        .unwrap();
    assert_eq!(finished.exit, Exit::Code(7));
    assert_eq!(finished.stdout, b"a\rb\x08\x08c\n");
    assert_eq!(finished.stderr, b"C\n");
    let of = |wanted| lines.iter().filter(|(s, _)| *s == wanted).map(|(_, l)| l.as_str()).collect::<Vec<_>>();
    assert_eq!(of(Stream::Stdout), ["a", "b", "c"]);
    assert_eq!(of(Stream::Stderr), ["C"]);
}

#[test]
fn a_tool_that_is_not_there_is_missing() {
    for tool in ["no-such-tool-anywhere", "/no/such/file", "/etc/passwd", "/etc"] {
        let answer = run(&Invocation { tool, args: vec![], timeout: LONG });
        assert!(matches!(answer, Err(ToolError::Missing { .. })), "{tool}");
    }
}

#[test]
fn a_file_that_is_no_program_cannot_be_run() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("garbage");
    std::fs::write(&path, b"\x00\x01\x02").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let service = Service { program: path.into(), args: vec![], env: vec![], leads: Leads::Group };
    assert!(matches!(runner().spawn(&service), Err(ToolError::Start { .. })));
}

#[test]
fn a_signal_is_told_apart_from_an_exit_code() {
    let finished = run(&script("kill -SEGV $$", LONG)).unwrap();
    assert_eq!(finished.exit, Exit::Signal(11));
    assert!(matches!(finished.code("x"), Err(ToolError::Signalled { signal: 11, .. })));
}

#[test]
fn at_the_time_limit_the_whole_group_dies() {
    let finished = run(&script("sleep 1000 & echo $!; sleep 1000", Duration::from_millis(300))).unwrap();
    assert_eq!(finished.exit, Exit::TimedOut);
    assert!(matches!(finished.code("x"), Err(ToolError::TimedOut { .. })));
    assert_dies(finished.stdout_text().trim());
}

#[test]
fn a_tool_that_ignores_being_asked_is_killed() {
    let finished =
        run(&script("trap '' TERM; echo $$; while :; do sleep 1000; done", Duration::from_millis(300)))
            .unwrap();
    assert_eq!(finished.exit, Exit::TimedOut);
    assert_dies(finished.stdout_text().trim());
}

#[test]
fn a_cancel_ends_a_running_tool_and_forbids_a_new_one() {
    let cancel = Cancel::new();
    let raise = cancel.clone();
    let finished = runner()
        .run(&script("echo started; sleep 1000", LONG), &cancel, &mut |_, line| {
            if line == "started" {
                raise.raise();
            }
        })
        .unwrap();
    assert_eq!(finished.exit, Exit::Cancelled);
    assert!(matches!(
        runner().run(&script("true", LONG), &cancel, &mut |_, _| {}),
        Err(ToolError::Cancelled { .. })
    ));
}

#[test]
fn what_is_left_of_the_group_dies_with_its_leader() {
    let finished = run(&script("sleep 1000 & echo $!", LONG)).unwrap();
    assert_eq!(finished.exit, Exit::Code(0));
    assert_dies(finished.stdout_text().trim());
}

#[test]
fn a_process_that_left_the_group_with_the_pipe_does_not_hold_us_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let text = "setsid bash -c 'echo $$ > \"$0\"; exec sleep 1000' \"$0\" & \
                while [ ! -s \"$0\" ]; do sleep 0.01; done";
    let mut invocation = script(text, LONG);
    invocation.args.push(file.clone().into());
    let finished = run(&invocation).unwrap();
    assert_eq!(finished.exit, Exit::Code(0));
    assert!(finished.elapsed < LONG / 2);
    let pid = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn huge_output_is_bounded_and_does_not_block() {
    let finished = run(&script("head -c 20000000 /dev/zero; echo end >&2", LONG)).unwrap();
    assert_eq!(finished.exit, Exit::Code(0));
    assert!(finished.truncated);
    assert!((OUTPUT_LIMIT_BYTES..OUTPUT_LIMIT_BYTES + 100).contains(&finished.stdout.len()));
    assert_eq!(finished.stderr, b"end\n");
}

#[test]
fn the_last_line_of_huge_output_is_kept() {
    let finished =
        run(&script("echo first >&2; head -c 20000000 /dev/zero >&2; echo last >&2", LONG)).unwrap();
    assert!(finished.truncated);
    assert!(finished.stderr.starts_with(b"first\n") && finished.stderr.ends_with(b"last\n"));
    assert_eq!(finished.last_words(), "last");
}

#[test]
fn garbage_bytes_are_kept_and_lines_of_it_are_text() {
    let mut seen = 0;
    let finished = runner()
        .run(&script("printf '\\377\\376\\000\\001\\nx'", LONG), &Cancel::new(), &mut |_, _| seen += 1)
        .unwrap();
    assert_eq!(finished.stdout, b"\xff\xfe\x00\x01\nx");
    assert_eq!(seen, 2);
}

#[test]
fn a_service_may_lead_a_session_and_is_still_ended_whole() {
    for (leads, own_session) in [(Leads::Session, true), (Leads::Group, false)] {
        let service = Service {
            program: "bash".into(),
            // the sixth field of stat is the session
            args: vec!["-c".into(), "cut -d' ' -f6 /proc/$$/stat; sleep 1000 & wait".into()],
            env: Vec::new(),
            leads,
        };
        let tool = runner().spawn(&service).unwrap();
        let Some(Happening::Line(_, session)) = tool.next(LONG) else { panic!() };
        assert_eq!(session == tool.pid().to_string(), own_session, "{leads:?}");
        tool.kill();
        assert_eq!(tool.wait(|_, _| {}), Some(Exit::Signal(9)));
    }
}

#[test]
fn a_service_gives_lines_takes_signals_and_dies_when_dropped() {
    let service = |text: &str| Service {
        program: "bash".into(),
        args: vec!["-c".into(), text.into()],
        env: vec![("WORD".into(), "spoken".into())],
        leads: Leads::Group,
    };
    let tool =
        runner().spawn(&service("trap 'echo bye; exit 3' TERM; echo $WORD; while :; do :; done")).unwrap();
    assert_eq!(tool.next(LONG), Some(Happening::Line(Stream::Stdout, "spoken".to_owned())));
    tool.terminate();
    let mut last = String::new();
    assert_eq!(tool.wait(|_, line| line.clone_into(&mut last)), Some(Exit::Code(3)));
    assert_eq!(last, "bye");
    assert_eq!(tool.wait(|_, _| {}), None);

    let tool = runner().spawn(&service("sleep 1000")).unwrap();
    let pid = tool.pid().to_string();
    drop(tool);
    assert_dies(&pid);
}

#[test]
fn last_words_come_from_stderr_first() {
    let finished = |stdout: &[u8], stderr: &[u8]| Finished {
        exit: Exit::Code(1),
        stdout: stdout.to_vec(),
        stderr: stderr.to_vec(),
        truncated: false,
        elapsed: Duration::ZERO,
    };
    assert_eq!(finished(b"out\n", b"one\ntwo\n\n").last_words(), "two");
    assert_eq!(finished(b"out\n", b"").last_words(), "out");
    assert_eq!(finished(b"", b"").last_words(), "it wrote nothing");
    assert!(matches!(
        finished(b"", b"no such device").success("x"),
        Err(ToolError::Failed { code: 1, message, .. }) if message == "no such device"
    ));
}

#[test]
fn orphans_are_reaped_and_the_runners_own_children_are_left_alone() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let stop = Cancel::new();
    let stop_reaper = stop.clone();
    let reaper = std::thread::spawn(move || {
        let mut reaped = 0;
        while !stop_reaper.is_raised() || reaped == 0 {
            reaped += reap_orphans();
            std::thread::yield_now();
        }
        reaped
    });
    for _ in 0..20 {
        let finished = run(&script("(setsid true &); exit 7", LONG)).unwrap();
        assert_eq!(finished.exit, Exit::Code(7));
    }
    stop.raise();
    assert!(reaper.join().unwrap() >= 1);
}
