package imports

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// job is one command line of a program, as a systemd unit, a crontab or a script runs it.
type job struct {
	place string // the file
	argv  []string
	env   map[string]string
}

// usualJobs are the places where programs are started from.
func usualJobs() []string {
	return []string{
		"/etc/systemd/system/*.service", "/etc/systemd/system/*.service.d/*.conf", "/lib/systemd/system/*.service", "/etc/crontab", "/etc/cron.d/*", "/etc/cron.daily/*",
		"/etc/cron.weekly/*", "/etc/cron.monthly/*", "/etc/cron.hourly/*", "/var/spool/cron/crontabs/*", "/var/spool/cron/*",
	}
}

// jobs finds the command lines of a program in files, or else in the usual places. A file that others can change is not
// read; the error says so of those that were named.
func jobs(program string, files []string) ([]job, error) {
	var list []job
	var errs []error
	named := len(files) > 0
	if !named {
		for _, pattern := range usualJobs() {
			found, _ := filepath.Glob(pattern)
			files = append(files, found...)
		}
	}
	for _, file := range files {
		text, err := readFile(file)
		switch {
		case err == nil:
			list = append(list, jobsIn(program, file, string(text))...)
		case named:
			errs = append(errs, err)
		}
	}
	return list, errors.Join(errs...)
}

func jobsIn(program, file, text string) []job {
	if !strings.Contains(text, program) {
		return nil
	}
	text = strings.ReplaceAll(text, "\\\n", " ")
	env := map[string]string{}
	var list []job
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case key == "Environment":
			addPairs(value, env)
		case key == "EnvironmentFile":
			readEnvironment(strings.TrimPrefix(value, "-"), env)
		case strings.HasPrefix(key, "Exec"):
			list = appendJob(list, program, file, strings.TrimLeft(value, "@-:+!|"), env)
		default:
			if _, _, ok := assignment(line); ok && !strings.Contains(line, program+" ") {
				settings(line, env)
				break
			}
			list = appendJob(list, program, file, line, env)
		}
	}
	return list
}

// addPairs adds the variables of a line of NAME=value words.
func addPairs(line string, env map[string]string) {
	pairs, _ := words(line)
	for _, pair := range pairs {
		if name, value, ok := assignment(pair); ok {
			env[name] = value
		}
	}
}

// readEnvironment adds the variables of a file, if it can be believed.
func readEnvironment(path string, env map[string]string) {
	if text, err := readFile(path); err == nil {
		settings(string(text), env)
	}
}

// appendJob adds the command line when the program is in it: from its name to the end, or to the next command.
func appendJob(list []job, program, file, line string, env map[string]string) []job {
	argv, _ := words(expand(line, env))
	i := slices.IndexFunc(argv, func(w string) bool { return filepath.Base(w) == program })
	if i < 0 {
		return list
	}
	own := maps.Clone(env)
	for _, w := range argv[:i] {
		if name, value, ok := assignment(w); ok {
			own[name] = value
		}
	}
	end := slices.IndexFunc(argv[i:], func(w string) bool {
		return strings.ContainsAny(cmp.Or(w, " ")[:1], "|&;>") || strings.HasPrefix(w, "2>")
	})
	argv = argv[i:]
	if end > 0 {
		argv = argv[:end]
	}
	return append(list, job{file, argv, own})
}

// flags reads the options of a command line. Those in switches take no value; each other one has a list of values.
func (j *job) flags(switches ...string) map[string][]string {
	options := map[string][]string{}
	for i := 1; i < len(j.argv); i++ {
		name, ok := strings.CutPrefix(j.argv[i], "-")
		if !ok || name == "" {
			continue
		}
		name = strings.TrimPrefix(name, "-")
		switch key, value, found := strings.Cut(name, "="); {
		case found:
			options[key] = append(options[key], value)
		case slices.Contains(switches, key) || i+1 == len(j.argv):
			options[key] = append(options[key], "true")
		default:
			i++
			options[key] = append(options[key], j.argv[i])
		}
	}
	return options
}

// isMissing reports whether a file is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
