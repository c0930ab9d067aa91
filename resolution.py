from emitter.app.programs import resolution

if __name__ == "__main__":
    resolution()
