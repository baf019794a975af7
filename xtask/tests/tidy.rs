//! The whole workspace keeps its own rules.

#[test]
fn the_walls_between_the_crates_hold() {
    let found = xtask::dependencies::violations(&xtask::workspace_root()).unwrap();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_source_is_tidy() {
    let root = xtask::workspace_root();
    assert!(
        xtask::source::files(&root).unwrap().len() > 20,
        "the files were not found"
    );
    let found = xtask::source::violations(&root).unwrap();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
