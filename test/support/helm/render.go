// Renders a chart as `helm template` does, where there is no helm: with the same template engine (text/template), the same functions
// (sprig) and Helm's own few on top. For a chart without dependencies, tests and notes, with no cluster to look anything up in.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run render.go CHART NAMESPACE < VALUES
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type object = map[string]interface{}

func main() {
	chart, namespace := os.Args[1], os.Args[2]
	given, err := io.ReadAll(os.Stdin)
	check(err)
	values := read(filepath.Join(chart, "values.yaml"))
	merge(values, parse(given))
	about := read(filepath.Join(chart, "Chart.yaml"))
	scope := object{
		"Values":  values,
		"Chart":   object{"Name": about["name"], "Version": about["version"], "AppVersion": about["appVersion"]},
		"Release": object{"Name": "octoplane", "Namespace": namespace, "Service": "Helm", "IsInstall": true},
	}

	root := template.New("chart").Option("missingkey=zero")
	root.Funcs(functions(root))
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	check(err)
	sort.Strings(files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(err)
		_, err = root.New(filepath.Base(file)).Parse(string(text))
		check(err)
	}
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "_") {
			continue
		}
		var out bytes.Buffer
		check(root.ExecuteTemplate(&out, filepath.Base(file), scope))
		// A key without a value prints as this under missingkey=zero; Helm removes it in the same way.
		if text := strings.ReplaceAll(out.String(), "<no value>", ""); strings.TrimSpace(text) != "" {
			fmt.Printf("---\n# Source: %s\n%s\n", filepath.Base(file), strings.Trim(text, "\n"))
		}
	}
}

func functions(root *template.Template) template.FuncMap {
	all := sprig.TxtFuncMap()
	// As in Helm: a chart does not see the environment.
	delete(all, "env")
	delete(all, "expandenv")
	all["include"] = func(name string, data interface{}) (string, error) {
		var out bytes.Buffer
		err := root.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	all["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	all["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, fmt.Errorf("%s", message)
		}
		return value, nil
	}
	all["lookup"] = func(string, string, string, string) object { return object{} }
	return all
}

func read(file string) object {
	text, err := os.ReadFile(file)
	check(err)
	return parse(text)
}

func parse(text []byte) object {
	parsed := object{}
	check(yaml.Unmarshal(text, &parsed))
	return parsed
}

// Maps are merged, everything else is replaced.
func merge(into, from object) {
	for key, value := range from {
		if next, isMap := value.(object); isMap {
			if before, wasMap := into[key].(object); wasMap {
				merge(before, next)
				continue
			}
		}
		into[key] = value
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
