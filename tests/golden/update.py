"""Writes every golden file anew; the diff is the review."""

from tests.golden.files import case_files, orphans, output_of, recompute_whole, whole_inputs


def main() -> None:
    """Rewrites what differs, removes expectations without an input, and says what it did."""
    wanted = {file.path: file.recompute() for file in case_files()}
    wanted.update({output_of(path): recompute_whole(path) for path in whole_inputs()})
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.name}")
    for path in orphans():
        path.unlink()
        print(f"removed: {path.name}")


if __name__ == "__main__":
    main()
