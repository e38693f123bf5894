# The townhall on Nomad: nomad job run deploy/nomad/townhall.nomad.hcl
#
# Trap: Nomad restarts a task whose check fails only if `check_restart` says so: /health may have it,
# /ready must not. Trap: secrets come from a Nomad variable, `nomad var put nomad/jobs/townhall …`.
job "townhall" {
  type = "service"

  group "townhall" {
    count = 1

    network {
      port "http" {
        to = 8080
      }
    }

    service {
      name     = "townhall"
      port     = "http"
      provider = "nomad"

      check {
        name     = "alive"
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "3s"

        check_restart {
          limit = 3
          grace = "30s"
        }
      }

      check {
        name     = "ready"
        type     = "http"
        path     = "/ready"
        interval = "10s"
        timeout  = "5s"
      }
    }

    task "townhall" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      config {
        image           = "ghcr.io/OWNER/tinytown-townhall:0.1.0"
        ports           = ["http"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]

        mount {
          type   = "tmpfs"
          target = "/tmp"
        }

        mount {
          type   = "tmpfs"
          target = "/home/town"
          tmpfs_options {
            mode = 1023 # 1777 in octal
          }
        }
      }

      env {
        TINYTOWN_LAUNCHER = "none"
        TINYTOWN_LOG      = "json"
      }

      template {
        destination = "secrets/town.env"
        env         = true
        data        = <<-END
          {{ with nomadVar "nomad/jobs/townhall" }}{{ range .Tuples }}
          {{ .K }}={{ .V }}
          {{ end }}{{ end }}
        END
      }

      resources {
        cpu    = 100
        memory = 256
      }
    }
  }
}
