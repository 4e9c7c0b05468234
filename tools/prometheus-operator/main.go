// Writes the configuration that the Prometheus operator makes of a Prometheus and of PodMonitors, by
// its own generator: for tests/kubernetes/operator/prometheus.yml, which the tests run. Not built by
// `make tools`; by hand, when the PodMonitors or the version of the operator change:
//
//	.venv/bin/python -m tests.kubernetes.pod_monitors > tests/kubernetes/operator/request.json
//	cd tools/prometheus-operator
//	go run . < ../../tests/kubernetes/operator/request.json > ../../tests/kubernetes/operator/prometheus.yml
package main

import (
	"encoding/json"
	"fmt"
	"os"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus-operator/prometheus-operator/pkg/assets"
	"github.com/prometheus-operator/prometheus-operator/pkg/prometheus"
	"k8s.io/client-go/kubernetes/fake"
)

// What standard input holds.
type request struct {
	Prometheus  *monitoringv1.Prometheus   `json:"prometheus"`
	PodMonitors []*monitoringv1.PodMonitor `json:"podMonitors"`
}

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write() error {
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return err
	}
	generator, err := prometheus.NewConfigGenerator(nil, asked.Prometheus)
	if err != nil {
		return err
	}
	monitors := map[string]*monitoringv1.PodMonitor{}
	for _, each := range asked.PodMonitors {
		monitors[each.Namespace+"/"+each.Name] = each
	}
	client := fake.NewSimpleClientset()
	store := assets.NewStoreBuilder(client.CoreV1(), client.CoreV1())
	configuration, err := generator.GenerateServerConfiguration(
		asked.Prometheus, nil, monitors, nil, nil, store, nil, nil, nil, nil)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(configuration)
	return err
}
