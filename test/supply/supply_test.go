package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLicenses: what is linked into acmed has a license that is allowed, and docs/LICENSES.md says which. "make lint" does
// the same for acmed-dns.
func TestLicenses(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/LICENSES.md"))
	must(t, err)
	part, err := section("acmed", filepath.Join(root, "cmd/acmed"))
	must(t, err)
	if !strings.Contains(string(page), part) {
		t.Errorf("docs/LICENSES.md is not what is linked: run make licenses")
	}
	var b bytes.Buffer
	must(t, notices(&b, filepath.Join(root, "cmd/acmed")))
	for _, want := range []string{"github.com/miekg/dns v", "go.uber.org/zap v", "Go standard library", "Uber Technologies"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the notices lack %q", want)
		}
	}
}

func TestRefusedLicenses(t *testing.T) {
	for text, want := range map[string]string{
		"GNU GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007":                          "GPL is not allowed",
		"GNU AFFERO GENERAL PUBLIC LICENSE\nVersion 3":                                    "AGPL is not allowed",
		"All rights reserved. You may not use this.":                                      "is unknown",
		"Permission is hereby granted, free of charge, to any person\n  obtaining a copy": "",
	} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "LICENSE.txt"), []byte(text), 0o600))
		_, err := licensesOf(module{Path: "example.com/m", Version: "v1.0.0", Dir: dir})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := licensesOf(module{Path: "example.com/m", Dir: t.TempDir()}); err == nil {
		t.Error("a module without a license passes")
	}
}

// TestReproducible: two builds in different directories are one program, to the byte, and its bill of materials has
// every module. With ACMED_FRESH=1, as "make reproducible" sets it, the second build compiles everything anew.
func TestReproducible(t *testing.T) {
	build := func(fresh bool) string {
		dir := t.TempDir()
		for _, name := range []string{"cmd", "pkg", "internal", "docs", "configs"} {
			must(t, os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root, name))))
		}
		for _, name := range []string{"go.mod", "go.sum"} {
			text, err := os.ReadFile(filepath.Join(root, name))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
		}
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=v1.2.3", "-o", "acmed", "./cmd/acmed")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if fresh {
			cmd.Env = append(cmd.Env, "GOCACHE="+t.TempDir())
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return filepath.Join(dir, "acmed")
	}
	programs := []string{build(false), build(os.Getenv("ACMED_FRESH") != "")}
	var bills [2]bytes.Buffer
	var sums [2]string
	for i, program := range programs {
		text, err := os.ReadFile(program)
		must(t, err)
		sums[i] = fmt.Sprintf("%x", sha256.Sum256(text))
		must(t, sbom(&bills[i], program))
	}
	if sums[0] != sums[1] || bills[0].String() != bills[1].String() {
		t.Errorf("two builds differ: %v", sums)
	}
	var b bill
	must(t, json.Unmarshal(bills[0].Bytes(), &b))
	if b.Metadata.Component.Name != "acmed" || b.Metadata.Component.Hashes[0].Content != sums[0] {
		t.Errorf("the bill is of %+v", b.Metadata.Component)
	}
	list, err := linked(filepath.Join(root, "cmd/acmed"))
	must(t, err)
	for _, m := range list {
		if !slices.ContainsFunc(b.Components, func(c component) bool { return c.Name == m.Path && c.Version == m.Version && len(c.Hashes) == 1 }) {
			t.Errorf("the bill lacks %s %s", m.Path, m.Version)
		}
	}
}

// TestReproduciblePackages: the archive and the packages of two runs of "make packages", in different directories, with
// different umasks, time zones and languages, are the same to the byte, and so are their checksums. It needs nfpm, so only
// "make reproducible" runs it. acmed-dns, whose build takes minutes, is packed by the same lines.
func TestReproduciblePackages(t *testing.T) {
	if os.Getenv("ACMED_FRESH") == "" {
		t.Skip("make reproducible runs this")
	}
	pack := func(umask, zone, language string) map[string]string {
		dir := t.TempDir()
		for _, name := range []string{"cmd", "pkg", "internal", "docs", "configs", "deploy", "test"} {
			must(t, os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root, name))))
		}
		for _, name := range []string{"go.mod", "go.sum", "Makefile", "LICENSE", "CHANGELOG.md"} {
			text, err := os.ReadFile(filepath.Join(root, name))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "umask "+umask+"; exec make packages ACMED_DNS=0 VERSION=v1.2.3 CGO_ENABLED=0")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "TZ="+zone, "LC_ALL="+language, "MAKEFLAGS=", "MAKEOVERRIDES=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		sums := map[string]string{}
		for _, pattern := range []string{"acmed*", "SHA256SUMS"} {
			files, err := filepath.Glob(filepath.Join(dir, "dist", pattern))
			must(t, err)
			for _, file := range files {
				text, err := os.ReadFile(file)
				must(t, err)
				sums[filepath.Base(file)] = fmt.Sprintf("%x", sha256.Sum256(text))
			}
		}
		return sums
	}
	first, second := pack("022", "UTC", "C"), pack("077", "Asia/Tokyo", "C.UTF-8")
	for _, ending := range []string{".tar.gz", ".deb", ".rpm", ".apk", ".pkg.tar.zst", "SHA256SUMS"} {
		found := slices.DeleteFunc(slices.Sorted(maps.Keys(first)), func(name string) bool { return !strings.HasSuffix(name, ending) })
		if len(found) != 1 || first[found[0]] != second[found[0]] {
			t.Errorf("*%s: %v, sums %v and %v", ending, found, first, second)
		}
	}
}

// TestSign: checksums that a listed key signed verify as the documentation says; changed ones, and those of another key,
// do not, and a key that is not listed signs nothing.
func TestSign(t *testing.T) {
	dir := t.TempDir()
	run := func(input string, argv ...string) error {
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Stdin = strings.NewReader(input)
		cmd.Env = append(os.Environ(), "SIGNERS="+dir+"/signers", "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}
	for _, key := range []string{"ours", "theirs"} {
		must(t, run("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", filepath.Join(dir, key)))
	}
	public, err := os.ReadFile(filepath.Join(dir, "ours.pub"))
	must(t, err)
	must(t, os.WriteFile(dir+"/signers", append([]byte(`acmed-releases namespaces="acmed" `), public...), 0o600))
	dist := filepath.Join(dir, "dist")
	must(t, os.Mkdir(dist, 0o755))
	sign := func(key string) error {
		return run("", "sh", root+"/deploy/release/sign.sh", filepath.Join(dir, key), dist)
	}
	if err := sign("ours"); err == nil || !strings.Contains(err.Error(), "make dist") {
		t.Errorf("without checksums: %v", err)
	}
	text := fmt.Sprintf("%x  acmed.tar.gz\n", sha256.Sum256([]byte("archive")))
	must(t, os.WriteFile(dist+"/SHA256SUMS", []byte(text), 0o600))
	must(t, os.WriteFile(dist+"/acmed.tar.gz", []byte("another"), 0o600))
	if err := sign("ours"); err == nil {
		t.Error("checksums of other files were signed")
	}
	must(t, os.WriteFile(dist+"/acmed.tar.gz", []byte("archive"), 0o600))
	if err := sign("theirs"); err == nil || !strings.Contains(err.Error(), "allowed_signers") && !strings.Contains(err.Error(), "signers") {
		t.Errorf("a key that is not listed: %v", err)
	}
	if _, err := os.Stat(dist + "/SHA256SUMS.sig"); err == nil {
		t.Error("a signature that does not verify was kept")
	}
	for range 2 { // again, over the signature that is there
		must(t, sign("ours"))
	}
	verify := func(sums string) error {
		return run(sums, "ssh-keygen", "-Y", "verify", "-f", dir+"/signers", "-I", "acmed-releases", "-n", "acmed", "-s", dist+"/SHA256SUMS.sig")
	}
	if err := verify(text); err != nil {
		t.Error(err)
	}
	must(t, os.Rename(dir+"/signers", dist+"/allowed_signers"))
	page, err := os.ReadFile(filepath.Join(root, "docs/SECURITY.md"))
	must(t, err)
	_, steps, _ := strings.Cut(string(page), "## Verify what you downloaded")
	_, steps, _ = strings.Cut(steps, "```console\n")
	steps, _, _ = strings.Cut(steps, "```")
	if strings.Count(steps, "$ ") != 2 {
		t.Errorf("docs/SECURITY.md does not say how to verify: %q", steps)
	}
	documented := func() error {
		return run("", "sh", "-ec", "cd "+dist+"\n"+strings.ReplaceAll(steps, "$ ", ""))
	}
	if err := documented(); err != nil {
		t.Error(err)
	}
	must(t, os.WriteFile(dist+"/acmed.tar.gz", []byte("another"), 0o600))
	if documented() == nil {
		t.Error("another archive verifies")
	}
	must(t, os.Rename(dist+"/allowed_signers", dir+"/signers"))
	if verify(text+"x") == nil || verify("") == nil {
		t.Error("other checksums verify")
	}
}

// TestFindings: what counts is a vulnerability that is reached and that releases have.
func TestFindings(t *testing.T) {
	const out = `{"config":{}} {"finding":{"osv":"GO-1","fixed_version":"v1.26.9","trace":[{"module":"stdlib","version":"v1.26.8","package":"net/http"}]}}
{"finding":{"osv":"GO-1","fixed_version":"v1.26.9","trace":[{"module":"stdlib","version":"v1.26.8","package":"net/http","function":"Get"}]}}
{"finding":{"osv":"GO-2","fixed_version":"v1.27.1","trace":[{"module":"stdlib","version":"v1.26.8","package":"os","function":"Open"}]}}
{"finding":{"osv":"GO-3","fixed_version":"v2.0.0","trace":[{"module":"example.com/m","version":"v1.0.0"}]}}
{"finding":{"osv":"GO-4","trace":[{"module":"example.com/m","version":"v1.0.0","package":"example.com/m","function":"F"}]}}`
	for depth, want := range map[string]string{"symbol": "GO-2 GO-4", "package": "GO-2 GO-4"} {
		list, err := findings([]byte(out), depth)
		must(t, err)
		var got []string
		for _, f := range serious(list, "go1.26.9", false) {
			got = append(got, f.OSV)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", depth, got, want)
		}
	}
	list, err := findings([]byte(out), "symbol")
	must(t, err)
	if n := len(serious(list, "go1.26.8", false)); n != 3 {
		t.Errorf("%d for a release that does not fix it", n)
	}
}
