"""What every service needs: settings, tokens, wallet, ledger, sealing, problems, telemetry."""
