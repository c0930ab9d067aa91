from emitter.app.programs import diagnose

if __name__ == "__main__":
    diagnose()
