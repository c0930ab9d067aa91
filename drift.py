from emitter.app.programs import drift

if __name__ == "__main__":
    drift()
